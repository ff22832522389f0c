"""How fast a bench is drawn: python -m benchmarks.benches [--batches 1 4 16] [--threads 1]

For each batch size the nano draws 16 pictures of GenEval's kind by `lightbagel bench`, from prompts to files, and, in
turns with it in one process, by `LightBagel.draw` and `write_pngs` alone, as `lightbagel generate` does, in the same
batches and from the same noise. `over bare` is what the bench takes over that; `alone` are 16 calls of
`LightBagel.generate`, which write nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import cat

from lightbagel_core.config import COMPONENTS, NANO
from lightbagel_core.evaluation.drawing.draw import seed_of
from lightbagel_core.evaluation.drawing.presets import Drawing
from lightbagel_core.evaluation.drawing.split import batches, draw_bench
from lightbagel_core.evaluation.items import Item
from lightbagel_core.files.png import write_pngs
from lightbagel_core.pipeline import LightBagel

from .measure import interleaved, options, parsed, ratio, report

PROMPTS = (
    "a red circle",
    "a large blue star on a black background",
    "a green square left of a red star",
    "a blue circle",
)
COUNT = 16


def items() -> list[Item]:
    def one(i: int) -> Item:
        return Item(f"{i:05}", "", (PROMPTS[i % len(PROMPTS)],), ((PurePosixPath(f"{i:05}/samples/0000.png"),),))

    return [one(i) for i in range(COUNT)]


def by_bench(model: LightBagel, drawing: Drawing, folder: Path) -> None:
    draw_bench(model, "geneval", items(), Path(tempfile.mkdtemp(dir=folder)), drawing, progress=False)


def bare(model: LightBagel, drawing: Drawing, folder: Path) -> None:
    out = Path(tempfile.mkdtemp(dir=folder))
    settings = model.settings(**drawing.asked)
    for batch in batches(items(), drawing):
        noise = [model.noise(1, settings.width, settings.height, seed_of("geneval", item.id, 0)) for item in batch]
        full = [[model.text(item.turns[0])] for item in batch]
        negative = [[model.text("")] for _ in batch]
        branches: dict[str, Any] = {"full": full, "negative": negative}
        pictures = model.draw(branches, cat(noise), settings.guidance, progress=False)
        write_pngs(pictures, [out / f"{item.id}.png" for item in batch], settings.to_dict())


def alone(model: LightBagel) -> None:
    for item in items():
        model.generate(item.turns[0], progress=False)


def rows(model: LightBagel, sizes: Sequence[int], args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    found = []
    for size in sizes:
        drawing = Drawing(samples=1, batch=size)
        calls: dict[str, Callable[[], Any]] = {
            "bench": partial(by_bench, model, drawing, folder),
            "bare": partial(bare, model, drawing, folder),
            "alone": partial(alone, model),
        }
        times = interleaved(calls, args.rounds, args.device)
        speed = {name: COUNT / statistics.median(taken) for name, taken in times.items()}
        row = {"batch": size, "over bare": ratio(times, "bench", "bare")}
        found.append(row | {f"{name} per second": value for name, value in speed.items()})
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    args = parsed(parser)
    model = LightBagel.from_pretrained(NANO, args.device, torch.float32)
    model.need(*COMPONENTS)
    with tempfile.TemporaryDirectory() as folder:
        report(args, "drawing a bench with the nano", rows(model, args.batches, args, Path(folder)))


if __name__ == "__main__":
    main()
