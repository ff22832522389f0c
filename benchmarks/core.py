"""All that the benchmarks use of the core's inside, in one place; all else goes by `LightBagel`'s own methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightbagel_core.model import forward
from lightbagel_core.model.forward import CleanImage, Context, Part
from lightbagel_core.model.packing import Pack
from lightbagel_core.pipeline import LightBagel

Samples = Sequence[Sequence[Part]]
Grid = tuple[int, int]  # token rows and columns of the target


@dataclass(frozen=True)
class Constants:
    """How many tokens of a batch do not change from step to step, each counted once.

    und: tokens of the VLM. sources: (tokens, tokens that each of them attends to) of each source image. prefixes: what
    the noised tokens of each sample attend to beside themselves.
    """

    und: int
    sources: list[tuple[int, int]]
    prefixes: list[int]


def pack(model: LightBagel, samples: Samples, grid: Grid) -> Pack:
    return forward.packed(samples, [forward.layout_of(parts, model.gen.patch, grid) for parts in samples])


def constants(model: LightBagel, samples: Samples, grid: Grid) -> Constants:
    packed = pack(model, samples, grid)
    sources = [(len(image.own), len(image.seen)) for image in packed.clean]
    return Constants(packed.und, sources, [len(prefix) for prefix in packed.prefix])


def und_states(model: LightBagel, samples: Samples, packed: Pack) -> Any:
    """The first half of `LightBagel.encode`: what the VLM makes of the samples."""
    return forward.und_states(model.und, samples, packed)


def context(model: LightBagel, samples: Samples, packed: Pack, grid: Grid, states: Sequence[Tensor]) -> Context:
    """The second half: keys and values of all constant tokens."""
    gen, fusion = model.gen, model.fusion
    found = [samples[b][s] for b, s in (image.at for image in packed.clean)]
    clean = [part.latents for part in found if isinstance(part, CleanImage)]
    learned = gen.learned_context(fusion.context.to(gen.dtype))
    return forward.prefix(gen, fusion, packed, grid, states, clean, learned, model.attention)


def velocity(model: LightBagel, latents: Tensor, t: Tensor, context: Context) -> Tensor:
    """`LightBagel.velocity` where no weights are brought to the device for it."""
    return forward.velocity(model.gen, model.fusion, latents, t, context, model.attention)
