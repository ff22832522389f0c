"""What each precision costs on the nano: python -m benchmarks.precision [--scenes 12]

Every mode goes along float32's own path: at each of its noised latents the guided velocity is computed anew and
compared, so that errors do not add up. Then each mode draws its own pictures from the same seeds. Half of the runs are
text to image, half edits with image guidance. Rows that name a part have float8 in it alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lightbagel_core.config import NANO
from lightbagel_core.evaluation.nano import fresh, picture
from lightbagel_core.files.components import COMPONENTS
from lightbagel_core.files.precision import MODES
from lightbagel_core.model.forward import Part
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.denoise import sample
from lightbagel_core.sampling.guidance import Guidance, combine
from lightbagel_core.sampling.solvers import make_solver
from lightbagel_core.training.nano.world import random_edit, random_prompt

SIDE = 128
ALONE = {"float8 in the VLM": ("und",), "float8 in the DiT": ("gen",), "float8 in the fusion": ("fusion",)}


def opened(dtype: torch.dtype) -> LightBagel:
    model = LightBagel.from_pretrained(NANO, "cpu", dtype)
    model.need(*COMPONENTS)
    return model


def mixed(half: LightBagel, small: LightBagel, names: tuple[str, ...]) -> LightBagel:
    """`half` with some parts of `small`."""
    chosen = [getattr(small if name in names else half, name) for name in ("und", "gen", "fusion", "vae")]
    return LightBagel(half.config, *chosen)


def runs(count: int) -> Iterator[tuple[str, object, Guidance]]:
    """(words, source picture or None, guidance) of runs that nothing was chosen on."""
    rng = fresh(77)
    for i in range(count):
        if i % 2:
            source, words, _ = random_edit(rng)
            yield words, picture(source), Guidance(1.25, 1.5)
        else:
            yield random_prompt(rng)[0], None, Guidance(2.0)


def parts(model: LightBagel, words: str, source: object) -> dict[str, list[Part]]:
    """The parts of each guidance branch of one sample."""
    seen = [] if source is None else [model.clean(source), model.vit(source)]
    return {
        "full": [*seen, model.text(words)],
        "negative": [*seen, model.text("")],
        "no_image": [model.text(words)],
    }


def contexts(model: LightBagel, words: str, source: object, guidance: Guidance) -> list:
    said = parts(model, words, source)
    return [model.encode([said[name]], SIDE, SIDE) for name in guidance.branches]


def velocity(model: LightBagel, branches: list, x: Tensor, t: float, guidance: Guidance) -> Tensor:
    return combine([model.velocity(x, t, branch) for branch in branches], guidance, model.gen.patch)


Path = list[tuple[Tensor, float, Tensor]]


def draw(
    model: LightBagel, branches: list, noise: Tensor, guidance: Guidance, shift: float, steps: int
) -> tuple[object, Path]:
    """The picture of a run, and its way there: (noised latents, flow time, velocity) of each step."""
    path: Path = []

    def step(x: Tensor, t: float) -> Tensor:
        path.append((x, t, velocity(model, branches, x, t, guidance)))
        return path[-1][2]

    return model.decode(sample(step, noise, make_solver("unipc", steps, shift)))[0], path


def psnr(a: object, b: object) -> float:
    error = np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", help="a file for the same figures")
    args = parser.parse_args()
    exact = opened(torch.float32)
    models = {name: opened(dtype) for name, dtype in MODES.items() if name != "float32"}
    models |= {name: mixed(models["bfloat16"], models["float8"], names) for name, names in ALONE.items()}
    errors: dict[str, list[float]] = {name: [] for name in models}
    likeness: dict[str, list[float]] = {name: [] for name in models}
    for number, (words, source, guidance) in enumerate(runs(args.scenes)):
        noise = exact.noise(1, SIDE, SIDE, number)
        solver = exact.config.defaults.shift, args.steps
        reference, path = draw(exact, contexts(exact, words, source, guidance), noise, guidance, *solver)
        for name, model in models.items():
            branches = contexts(model, words, source, guidance)
            for x, t, v in path:
                errors[name].append(float((velocity(model, branches, x, t, guidance) - v).norm() / v.norm()))
            likeness[name].append(psnr(draw(model, branches, noise, guidance, *solver)[0], reference))
    rows = {
        name: {
            "velocity_median": statistics.median(errors[name]),
            "velocity_most": max(errors[name]),
            "psnr_median": statistics.median(likeness[name]),
            "psnr_least": min(likeness[name]),
        }
        for name in models
    }
    print(f"{args.scenes} runs of {args.steps} steps against float32: relative error of velocities, PSNR in dB")
    print(f"{'':<22}{'error: median':>14}{'most':>8}{'PSNR: median':>14}{'least':>7}")
    for name, row in rows.items():
        print(f"{name:<22}{row['velocity_median']:>14.2%}{row['velocity_most']:>8.2%}", end="")
        print(f"{row['psnr_median']:>14.1f}{row['psnr_least']:>7.1f}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
