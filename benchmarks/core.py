"""All that the benchmarks use of the core's inside, in one place; all else goes by `LightBagel`'s own methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightbagel_core.model import forward
from lightbagel_core.model.forward import Content, Context
from lightbagel_core.model.packing import Pack
from lightbagel_core.pipeline import LightBagel

Samples = Sequence[Sequence[Content]]
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
    return forward.pack_samples(samples, model.gen.patch, grid)


def constants(model: LightBagel, samples: Samples, grid: Grid) -> Constants:
    packed = pack(model, samples, grid)
    sources = [(image.positions.shape[1], len(image.attended)) for image in packed.images]
    return Constants(packed.positions.shape[1], sources, list(packed.lengths))


def und_states(model: LightBagel, packed: Pack) -> Any:
    """The first half of `LightBagel.encode`: what the VLM makes of the samples."""
    return forward.und_states(model.und, packed)


def context(model: LightBagel, packed: Pack, states: Sequence[Tensor]) -> Context:
    """The second half: keys and values of all constant tokens."""
    gen, fusion = model.gen, model.fusion
    learned = gen.learned_context(fusion.context.to(gen.dtype))
    device = states[0].device
    return forward.encode(gen, fusion, packed, states.__getitem__, learned, model.attention, gen.dtype, device)


def velocity(model: LightBagel, latents: Tensor, t: Tensor, context: Context) -> Tensor:
    """`LightBagel.velocity` where no weights are brought to the device for it."""
    return forward.velocity(model.gen, model.fusion, latents, t, context, model.attention)
