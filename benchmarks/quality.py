"""What cheaper drawing costs on the nano: python -m benchmarks.quality steps|easycache|precision [--scenes 100]

All rows draw the same fresh scenes, text to image and edits with text and image guidance, from the same noise.

steps, and easycache --comfyui PATH (ComfyUI's caching nodes on our MODEL; needs what tests/comfy needs and accelerate):
the rules that read a picture off its pixels say whether it is right; what a row lost and won is counted against the
first row, as is PSNR. Work: the self-attentions, cross-attentions and feed-forwards computed in the DiT's blocks, or in
ComfyUI the rows that go through them, relative to the first row's. `error` is the standard error of `right`.

precision: every mode goes along float32's own path: at each of its noised latents the guided velocity is computed anew
and compared, so that errors do not add up. Then each mode draws its own pictures. Rows that name a component have
float8 in it alone.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.hooks import PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from PIL import Image
from torch import Tensor, cat, nn

from lightbagel_core.config import COMPONENTS, NANO, SolverName
from lightbagel_core.evaluation.suites.checks import judge
from lightbagel_core.evaluation.suites.truth import picture, read_picture
from lightbagel_core.files.precision import MODES
from lightbagel_core.model.forward import Content, Context
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.guidance import Guidance, combine
from lightbagel_core.world.edits import Change, random_edit
from lightbagel_core.world.scenes import PLACES, Scene, Thing
from lightbagel_core.world.sentences import random_prompt

from .measure import options, parsed, report
from .worker import in_comfyui

SIDE = 96
BATCH = 50
GUIDANCE = {"text to image": Guidance(2.0), "edits": Guidance(1.25, 1.5)}
Drawn = tuple[list[Image.Image], float]  # pictures, work
Timestep = Callable[[], float]


@dataclass(frozen=True)
class Task:
    """source: of an edit, and changes: what it asks for. wanted: one scene that is right."""

    words: str
    wanted: Scene
    source: Scene | None = None
    changes: Sequence[Change] = ()


def tasks(kind: str, count: int, seed: int = 78) -> list[Task]:
    """Tasks that nothing was chosen on."""
    rng = np.random.default_rng([seed, 2**31])
    if kind != "edits":
        return [Task(*random_prompt(rng)) for _ in range(count)]
    edits = [random_edit(rng) for _ in range(count)]
    return [Task(edit.words, edit.target, edit.source, edit.changes) for edit in edits]


def agrees(prompt: str, wanted: Scene, seen: Scene | None) -> bool:
    """Whether a picture shows what its prompt says; what the prompt leaves open is free.

    A size or a colour that the prompt does not name may come out any way; several things without places may stand
    anywhere.
    """
    if seen is None or seen.background != wanted.background or len(seen.things) != len(wanted.things):
        return False
    free_places = len(wanted.things) > 1 and not any(word in prompt for word in (*PLACES, "above", "below"))

    def same(thing: Thing, other: Thing) -> bool:
        named = f"{thing.colour} {thing.shape}"
        sized = any(f"{thing.size} {noun}" in prompt for noun in (named, thing.shape))
        return (
            other.shape == thing.shape
            and (other.colour == thing.colour or named not in prompt)
            and (other.size == thing.size or not sized)
            and (other.place == thing.place or free_places)
        )

    return any(all(map(same, wanted.things, order)) for order in permutations(seen.things))


def is_right(task: Task, image: Image.Image) -> bool:
    """Whether a picture, read off its pixels, shows what its task asks for."""
    seen = read_picture(image)
    if task.source is None:
        return agrees(task.words, task.wanted, seen)
    return judge(task.changes, task.source, seen).right


def psnr(a: object, b: object) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def scored(count: int, rows: Mapping[str, Callable[[str, list[Task]], Drawn]]) -> list[dict[str, Any]]:
    """The figures of what each row draws; the first is what the others are compared with."""
    found: list[dict[str, Any]] = []
    for kind in GUIDANCE:
        wanted = tasks(kind, count)
        reference: tuple[list[bool], Drawn] | None = None
        for name, draw in rows.items():
            drawn, work = draw(kind, wanted)
            right = [is_right(task, image) for task, image in zip(wanted, drawn, strict=True)]
            reference = reference or (right, (drawn, work))
            pairs, share = list(zip(reference[0], right, strict=True)), statistics.mean(right)
            row = {"kind": kind, "row": name, "right": share, "error": (share * (1 - share) / count) ** 0.5}
            row |= {"lost": pairs.count((True, False)), "won": pairs.count((False, True))}
            row |= {"psnr": statistics.median(map(psnr, drawn, reference[1][0])), "work": work / reference[1][1]}
            found.append(row)
    return found


def broadcast(timestep: Timestep) -> Any:
    """Every other attention is the one before it."""
    at = (0, 1000)
    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        cross_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=at,
        cross_attention_timestep_skip_range=at,
        current_timestep_callback=timestep,
    )


def taylor(_: Timestep) -> Any:
    """From the fourth step on, every other step has its attentions and feed-forwards foretold."""
    layers = [r"blocks\.\d+\.(attn[12]|ffn)"]
    return TaylorSeerCacheConfig(cache_interval=2, taylor_factors_dtype=torch.float32, cache_identifiers=layers)


@dataclass(frozen=True)
class Row:
    """`cache` makes a diffusers cache config from what tells the timestep, 1000 at noise."""

    steps: int
    solver: SolverName = "unipc"
    interval: tuple[float, float] = (0.0, 1.0)
    cache: Callable[[Timestep], Any] | None = None


ROWS = {
    **{f"unipc {steps}": Row(steps) for steps in (50, 30, 25, 20, 12, 8)},
    "euler 20": Row(20, "euler"),
    **{f"unipc 20, guidance in {low:g} .. 1": Row(20, interval=(low, 1.0)) for low in (0.3, 0.7)},
    "unipc 20, attention broadcast": Row(20, cache=broadcast),
    "unipc 20, TaylorSeer": Row(20, cache=taylor),
}


class Watched(LightBagel):
    """Counts what the steps compute, keeps their velocities, has a cache of diffusers on during one run's steps alone.

    The source images go through the DiT's blocks too, and before the first step: a cache that was on then would hand
    what it saw of them to the steps, and one left on that of a run to the next.
    """

    cache: Callable[[Timestep], Any] | None = None
    timestep, layers = 0.0, 0

    def watch(self) -> None:
        def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.layers += len(inputs[0])

        for block in self.gen.blocks:
            for layer in (block.attn1.to_q, block.attn2.to_q, block.ffn.net[0]):
                layer.register_forward_pre_hook(count)

    def encode(self, samples: Sequence[Sequence[Content]], width: int, height: int) -> Context:
        before, dit = self.layers, self.gen.dit
        if dit.is_cache_enabled:
            dit.disable_cache()
        context = super().encode(samples, width, height)
        if self.cache is not None:
            dit.enable_cache(self.cache(lambda: self.timestep))
        self.layers, self.path = before, []
        return context

    def velocity(self, latents: Tensor, t: float | Tensor, context: Context) -> Tensor:
        self.timestep = float(t) * 1000
        with self.gen.dit.cache_context("steps"):
            self.path.append((latents, t, super().velocity(latents, t, context)))
        return self.path[-1][2]


def opened(dtype: torch.dtype) -> Watched:
    model = Watched.from_pretrained(NANO, "cpu", dtype)
    model.need(*COMPONENTS)
    return model


def branches_of(model: LightBagel, wanted: Sequence[Task], guidance: Guidance) -> dict[str, list[list[Content]]]:
    """The parts of each guidance branch of the tasks."""
    branches: dict[str, list[list[Content]]] = {name: [] for name in guidance.branches}
    for task in wanted:
        shown = [] if task.source is None else [picture(task.source)]
        seen: list[Content] = [make(image) for image in shown for make in (model.clean, model.vit)]
        text = model.text(task.words)
        said: dict[str, list[Content]] = {"full": [*seen, text], "no_image": [text]}
        said["negative"] = [*seen, model.text("")]
        for name in branches:
            branches[name].append(said[name])
    return branches


def draw(model: Watched, row: Row, kind: str, wanted: list[Task]) -> Drawn:
    model.cache, model.layers = row.cache, 0
    guidance, pictures = replace(GUIDANCE[kind], interval=row.interval), []
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        noise = cat([model.noise(1, SIDE, SIDE, start + i) for i in range(len(batch))])
        branches = branches_of(model, batch, guidance)
        pictures += model.draw(branches, noise, guidance, steps=row.steps, solver=row.solver, progress=False)
    return pictures, model.layers


def steps(args: argparse.Namespace) -> list[dict[str, Any]]:
    model = opened(torch.float32)
    model.watch()
    return scored(args.scenes or 100, {name: partial(draw, model, row) for name, row in ROWS.items()})


def easycache(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One picture at a time: these nodes decide by what a batch does as a whole."""
    host, helpers = in_comfyui(Path(__file__).resolve().parents[1], args.comfyui.resolve())
    model, clip, vae = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")
    wan, rows = type(model.model.diffusion_model), [0]
    forward = wan.forward_orig

    def counted(module: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        rows[0] += len(x) if t.any() else 0  # at 0 it is a source image
        return forward(module, x, t, *args, **kwargs)

    wan.forward_orig = counted

    def draw(count: int, node: str, kind: str, wanted: list[Task]) -> Drawn:
        rows[0], pictures = 0, []
        cache = {"reuse_threshold": 0.1, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
        for seed, task in enumerate(wanted):
            used = host(node, model=model, **cache) if node else model
            inputs = {"model": used, "clip": clip, "vae": vae, **helpers.SETTINGS, "seed": seed, "steps": count}
            inputs["text_guidance"] = GUIDANCE[kind].text
            if task.source is None:
                image, _ = host(
                    "LightBagelGenerate", prompt=task.words, width=SIDE, height=SIDE, batch_size=1, **inputs
                )
            else:
                inputs |= {"images": {"image": helpers.tensor(picture(task.source))}, "instruction": task.words}
                image, _ = host("LightBagelEdit", image_guidance=GUIDANCE[kind].image, **inputs)
            pictures.append(Image.fromarray(helpers.pixels(image)))
        return pictures, rows[0]

    ways = {f"euler {count}": partial(draw, count, "") for count in (50, 20, 8)}
    ways |= {f"euler 20, {node} 0.1": partial(draw, 20, node) for node in ("EasyCache", "LazyCache")}
    return scored(args.scenes or 60, ways)


def precision(args: argparse.Namespace) -> list[dict[str, Any]]:
    exact, models = opened(torch.float32), {name: opened(dtype) for name, dtype in MODES.items() if name != "float32"}
    half, small = models["bfloat16"], models["float8"]
    for name, one in (("VLM", "und"), ("DiT", "gen"), ("fusion", "fusion")):
        each = {part: getattr(small if part == one else half, part) for part in ("und", "gen", "fusion", "vae")}
        models[f"float8 in the {name}"] = Watched(half.config, *each.values())
    errors: dict[str, list[float]] = {name: [] for name in models}
    likeness: dict[str, list[float]] = {name: [] for name in models}
    count = args.scenes or 12
    wanted = [(kind, task) for kind in GUIDANCE for task in tasks(kind, count // 2, 77)]
    for seed, (kind, task) in enumerate(wanted):
        guidance, noise = GUIDANCE[kind], exact.noise(1, SIDE, SIDE, seed)

        def guided(velocity: Tensor, guidance: Guidance = guidance) -> Tensor:
            return combine(list(velocity.chunk(len(guidance.branches))), guidance, exact.gen.patch)

        def drawn(model: Watched, branches: Any, noise: Any = noise, guidance: Guidance = guidance) -> Image.Image:
            return model.draw(branches, noise, guidance, steps=20, progress=False)[0]

        reference = drawn(exact, branches_of(exact, [task], guidance))
        for name, model in models.items():
            branches = branches_of(model, [task], guidance)
            context = model.encode([parts for each in branches.values() for parts in each], SIDE, SIDE)
            for x, t, velocity in exact.path:
                right = guided(velocity)
                errors[name].append(float((guided(model.velocity(x, t, context)) - right).norm() / right.norm()))
            likeness[name].append(psnr(drawn(model, branches), reference))
    return [
        {
            "mode": name,
            "velocity_median": statistics.median(errors[name]),
            "velocity_most": max(errors[name]),
            "psnr_median": statistics.median(likeness[name]),
            "psnr_least": min(likeness[name]),
        }
        for name in models
    ]


def main() -> None:
    kinds = {"steps": steps, "easycache": easycache, "precision": precision}
    parser = options(__doc__)
    parser.add_argument("what", choices=kinds)
    parser.add_argument(
        "--scenes", type=int, help="of each kind: 100, of easycache 60; of precision 12 of both together"
    )
    parser.add_argument("--comfyui", type=Path, metavar="PATH", help="a ComfyUI")
    args = parsed(parser)
    report(args, f"{args.what}, the nano", kinds[args.what](args))


if __name__ == "__main__":
    main()
