"""All that the benchmarks use of the core's inside, in one place; all else goes by `LightBagel`'s own methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from lightbagel_core.config import LightBagelConfig
from lightbagel_core.images import size_by_rule
from lightbagel_core.model import forward, packing
from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import Content, Context, EncodedSegment
from lightbagel_core.model.fusion import FusionStack
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.packing import Pack
from lightbagel_core.model.sequence import ImageSegment, TextSegment
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.loss import Drawing, Pass, noised

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
    return counted(pack(model, samples, grid))


def counted(packed: Pack) -> Constants:
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


def training_batch(config: LightBagelConfig, pixels: int, count: int, sources: int, words: int) -> Pass:
    """A training step's batch: random samples, each with so many source pictures of the target's size, and a text of so
    many und tokens. What the VLM made of them is random, too.
    """
    fusion, side = config.fusion, pixels // config.vae["scale_factor_spatial"]
    rows = side // config.generation["patch_size"][-1]
    seen = size_by_rule(pixels, pixels, config.vit_image)[0] // config.vit_image.stride
    source = [ImageSegment("clean", rows, rows), ImageSegment("vit", seen, seen)]
    segments = [*source * sources, TextSegment(words), ImageSegment("noised", rows, rows)]
    samples = []
    for _ in range(count):
        contents = []
        for segment in segments:
            states = torch.randn(fusion.und_layers, segment.und_tokens, fusion.und_dim)
            clean = isinstance(segment, ImageSegment) and segment.kind == "clean"
            contents.append(EncodedSegment(states, torch.randn(config.vae["z_dim"], side, side) if clean else None))
        samples.append(Sample(tuple(segments), contents, torch.randn(config.vae["z_dim"], side, side), bool(sources)))
    return noised(samples, [(0, i) for i in range(count)], config.defaults.shift)


def batch_constants(batch: Pass) -> Constants:
    """The constant tokens of a training step's batch."""
    return counted(packing.pack([s.layout for s in batch.samples], [s.contents for s in batch.samples]))


def drawing(dit: WanTransformer3DModel, fusion: FusionStack) -> Drawing:
    """The module that gives the loss of a training step, the VLM's states given."""
    return Drawing(Generation(dit), fusion, SDPA)
