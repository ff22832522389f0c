"""All suites of the nano in one: writes the prompts, draws, asks, reads the pixels, and gives the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...pipeline import LightBagel
from ..bench import Bench, Files
from ..drawing.presets import Drawing
from ..drawing.run_file import claim
from ..drawing.split import draw_bench
from ..scores import FILE, Scores
from . import describing, drawing, editing, turns
from .truth import as_json, write

COUNT = 100  # items of each suite
SEEDS = (1,)
FULL: Mapping[str, Any] = MappingProxyType({"per_class": 80, "seeds": (1, 2, 3, 4, 5)})  # 400 items of each class
ASKED = "asked.json"  # how many items there are and of which seeds
PROMPTS = "prompts"  # the folder of a suite's prompts, below that of its pictures

Write = Callable[[Path, int, Sequence[int]], None]
DRAWN: Mapping[str, tuple[Bench, Write, int]] = {  # the bench, what writes its prompts, how many classes it has
    drawing.NAME: (drawing.BENCH, drawing.write_prompts, len(drawing.TAGS)),
    drawing.SHORT: (drawing.SHORT_BENCH, drawing.write_prompts, len(drawing.TAGS)),
    editing.NAME: (editing.BENCH, editing.write_prompts, len(editing.CLASSES)),
    turns.NAME: (turns.BENCH, turns.write_prompts, len(turns.KINDS)),
}


def make(write_prompts: Write, folder: Path, count: int, seeds: Sequence[int]) -> Files:
    """Writes a suite's prompts below its folder.

    Raises:
        ValueError: there are others already, whose pictures may be there too.
    """
    prompts, asked = folder / PROMPTS, {"count": count, "seeds": list(seeds)}
    if (prompts / ASKED).is_file() and (prompts / ASKED).read_text("utf-8") != as_json(asked):
        raise ValueError(f"{prompts} holds another number of items, or those of other seeds: choose another folder")
    write(prompts, ASKED, asked)
    write_prompts(prompts, count, seeds)
    return Files(prompts, folder)


def run_nano(
    model: LightBagel,
    out: Path,
    count: int = COUNT,
    seeds: Sequence[int] = SEEDS,
    progress: bool = True,
    per_class: int | None = None,
) -> list[Scores]:
    """Runs all suites; writes prompts, pictures or answers, results and `scores.json` of each into `out` / its name.

    What is there already is neither drawn nor asked again, so that a run that was stopped goes on.

    Args:
        count: items of each suite for each seed, its classes in turn.
        seeds: of the items; the items of different seeds, and their noise, are independent.
        per_class: so many items of each class for each seed, instead of `count` of each suite. `FULL` has the values
            that the published figures are made with.

    Raises:
        ValueError: no items or no seeds are asked for, or `out` holds another run, or a file could not be written.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds must be different whole numbers from 0 on, and there must be one: not {list(seeds)}")
    if (count if per_class is None else per_class) < 1:
        raise ValueError("a suite needs at least 1 item")
    scores = []
    for name, (bench, write_prompts, classes) in DRAWN.items():
        folder, how = out / name, Drawing(bench.samples, bench.batch, history=bench.history)
        number = count if per_class is None else per_class * classes
        files = make(write_prompts, folder, number, seeds)
        claim(folder, model, name, files, how)
        draw_bench(model, name, bench.read(files, bench.samples).items, folder, how, progress=progress)
        assert bench.score is not None
        scores.append(bench.score(files))
    folder = out / describing.NAME
    number = count if per_class is None else per_class * len(describing.CLASSES)
    files = make(describing.write_prompts, folder, number, seeds)
    claim(folder, model, describing.NAME, files, Drawing(1, describing.BATCH))
    scores.append(describing.scores_of(describing.ask(model, files.prompts, folder, progress)))
    for one in scores:
        write(out / one.bench, FILE, one.to_dict())
    return scores
