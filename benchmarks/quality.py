"""What fewer and cheaper steps cost on the nano: python -m benchmarks.quality [--scenes 100] [--rows ROW ...]

Every row draws the same fresh scenes from the same noise: text to image, and edits with text and image guidance. The
rules that read a picture off its pixels say whether it is right; what a row lost and won is counted against the first
row, as is PSNR. Forwards: one guidance branch of one picture through the DiT's blocks. Work: the self-attentions,
cross-attentions and feed-forwards computed in them, relative to the first row's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from diffusers.hooks import PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from PIL import Image
from torch import Tensor, cat, float32, nn

from benchmarks.precision import SIDE, parts, psnr
from lightbagel_core.config import SolverName
from lightbagel_core.evaluation.nano import BATCH, agrees, edited, fresh, picture, read
from lightbagel_core.files.components import COMPONENTS
from lightbagel_core.model.forward import Context, Part
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.guidance import Guidance
from lightbagel_core.training.nano.world import Scene, random_edit, random_prompt

Task = tuple[Scene | None, str, Scene]  # source of an edit, words, what is wanted
Timestep = Callable[[], float]


def broadcast(lowest: int, highest: int) -> Callable[[Timestep], Any]:
    """Every other attention is the one before it, at timesteps between these two of 0 .. 1000."""
    at = (lowest, highest)
    return lambda timestep: PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        cross_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=at,
        cross_attention_timestep_skip_range=at,
        current_timestep_callback=timestep,
    )


def taylor(interval: int, **changed: Any) -> Callable[[Timestep], Any]:
    """From the fourth step on, `interval - 1` of `interval` steps have their attentions and feed-forwards foretold."""
    layers = {} if changed else {"cache_identifiers": [r"blocks\.\d+\.(attn[12]|ffn)"]}
    return lambda _: TaylorSeerCacheConfig(cache_interval=interval, taylor_factors_dtype=float32, **layers, **changed)


@dataclass(frozen=True)
class Row:
    """`cache` makes a diffusers cache config from what tells the timestep, 1000 at noise."""

    steps: int
    solver: SolverName = "unipc"
    interval: tuple[float, float] = (0.0, 1.0)
    cache: Callable[[Timestep], Any] | None = None


INTERVALS = ((0.3, 1.0), (0.7, 1.0), (0.9, 1.0), (0.0, 0.9))
ROWS = {
    "unipc 50": Row(50),
    **{f"unipc {steps}": Row(steps) for steps in (30, 25, 20, 12, 8, 4)},
    **{f"{solver} {steps}": Row(steps, solver) for solver in ("euler", "dpm++") for steps in (50, 20)},
    **{f"unipc 20, guidance in {lo:g} .. {hi:g}": Row(20, interval=(lo, hi)) for lo, hi in INTERVALS},
    "unipc 20, attention broadcast, 100 .. 800": Row(20, cache=broadcast(100, 800)),
    "unipc 20, attention broadcast": Row(20, cache=broadcast(0, 1000)),
    "unipc 20, TaylorSeer 2": Row(20, cache=taylor(2)),
    "unipc 20, TaylorSeer 3": Row(20, cache=taylor(3)),
    "unipc 20, TaylorSeer 2, whole blocks": Row(20, cache=taylor(2, use_lite_mode=True)),
}
GUIDANCE = {"text to image": Guidance(2.0), "edits": Guidance(1.25, 1.5)}


class Watched(LightBagel):
    """Counts what the steps compute, and has a cache of diffusers on during one run's steps alone.

    The source images go through the DiT's blocks too, and before the first step: a cache that was on then would hand
    what it saw of them to the steps, and one left on that of a run to the next.
    """

    cache: Callable[[Timestep], Any] | None = None
    timestep = 0.0
    forwards = layers = 0

    def watch(self) -> None:
        def count(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda _, inputs: setattr(self, name, getattr(self, name) + len(inputs[0]))

        self.gen.blocks[0].norm1.register_forward_pre_hook(count("forwards"))
        for block in self.gen.blocks:
            for layer in (block.attn1.to_q, block.attn2.to_q, block.ffn.net[0]):
                layer.register_forward_pre_hook(count("layers"))

    def encode(self, samples: Sequence[Sequence[Part]], width: int, height: int) -> Context:
        before, dit = (self.forwards, self.layers), self.gen.dit
        if dit.is_cache_enabled:
            dit.disable_cache()
        context = super().encode(samples, width, height)
        if self.cache is not None:
            dit.enable_cache(self.cache(lambda: self.timestep))
        self.forwards, self.layers = before
        return context

    def velocity(self, latents: Tensor, t: float | Tensor, context: Context) -> Tensor:
        self.timestep = float(t) * 1000
        with self.gen.dit.cache_context("steps"):
            return super().velocity(latents, t, context)


@dataclass(frozen=True)
class Result:
    """What a row drew of each task, how much was right, and what it took per picture."""

    pictures: list[Image.Image]
    right: list[bool]
    forwards: float
    work: float
    seconds: float  # of CPU time, all threads together


@dataclass(frozen=True)
class Figures:
    """A row of the table."""

    right: float
    error: float  # standard error of `right`
    lost: int
    won: int
    psnr_median: float
    forwards: float
    work: float
    seconds: float


def tasks(kind: str, count: int) -> list[Task]:
    """Tasks that nothing was chosen on."""
    rng = fresh(78)
    if kind == "edits":
        return [random_edit(rng) for _ in range(count)]
    return [(None, *random_prompt(rng)) for _ in range(count)]


def is_right(task: Task, image: Image.Image) -> bool:
    source, words, wanted = task
    return (agrees if source is None else edited)(words, wanted, read(image))


def draw(model: Watched, said: Sequence[Mapping[str, list[Part]]], row: Row, guidance: Guidance) -> list[Image.Image]:
    model.cache = row.cache
    guidance = replace(guidance, interval=row.interval)
    pictures = []
    for start in range(0, len(said), BATCH):
        batch = said[start : start + BATCH]
        branches = {name: [sample[name] for sample in batch] for name in guidance.branches}
        noise = cat([model.noise(1, SIDE, SIDE, start + i) for i in range(len(batch))])
        pictures += model.draw(branches, noise, guidance, steps=row.steps, solver=row.solver, progress=False)
    return pictures


def result(model: Watched, wanted: Sequence[Task], said: Sequence[Any], row: Row, guidance: Guidance) -> Result:
    model.forwards = model.layers = 0
    start = time.process_time()
    pictures = draw(model, said, row, guidance)
    seconds, count = time.process_time() - start, len(wanted)
    right = [is_right(task, image) for task, image in zip(wanted, pictures, strict=True)]
    return Result(pictures, right, model.forwards / count, model.layers / count, seconds / count)


def figures(row: Result, reference: Result) -> Figures:
    share = statistics.mean(row.right)
    pairs = list(zip(reference.right, row.right, strict=True))
    return Figures(
        share,
        (share * (1 - share) / len(row.right)) ** 0.5,
        pairs.count((True, False)),
        pairs.count((False, True)),
        statistics.median(psnr(a, b) for a, b in zip(row.pictures, reference.pictures, strict=True)),
        row.forwards,
        row.work / reference.work,
        row.seconds,
    )


def table(kind: str, rows: Mapping[str, Figures]) -> str:
    """The rows in Markdown; the first is what the others are compared with."""
    lines = [f"| {kind} | right | lost, won | PSNR | forwards | work | seconds |", "| --- " + "| ---: " * 6 + "|"]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row.right:.1%} ± {row.error:.1%} | {row.lost}, {row.won} | {row.psnr_median:.1f} "
            f"| {row.forwards:.1f} | {row.work:.0%} | {row.seconds:.2f} |"
        )
    return "\n".join(lines)


def report(count: int, results: Callable[[str, list[Task]], Mapping[str, Result]], file: str | None) -> None:
    """Prints the tables of what `results` finds for each kind of task; the first row is the reference."""
    print(f"{count} scenes of each kind; PSNR in dB, the median; forwards and CPU seconds per picture", flush=True)
    found = {}
    for kind in GUIDANCE:
        rows = results(kind, tasks(kind, count))
        reference = next(iter(rows.values()))
        found[kind] = {name: figures(row, reference) for name, row in rows.items()}
        print(f"\n{table(kind, found[kind])}", flush=True)
    if file:
        data = {kind: {name: asdict(row) for name, row in rows.items()} for kind, rows in found.items()}
        with open(file, "w", encoding="utf-8") as out:
            json.dump({"scenes": count, **data}, out, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100, help="of each kind")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="; ".join(ROWS))
    parser.add_argument("--json", help="a file for the same figures")
    args = parser.parse_args()
    model = Watched.from_pretrained("nano", "cpu")
    model.need(*COMPONENTS)
    model.watch()

    def results(kind: str, wanted: list[Task]) -> dict[str, Result]:
        said = [parts(model, words, source and picture(source)) for source, words, _ in wanted]
        return {name: result(model, wanted, said, ROWS[name], GUIDANCE[kind]) for name in args.rows}

    report(args.scenes, results, args.json)


if __name__ == "__main__":
    main()
