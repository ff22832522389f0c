"""Samples of the tiny model made by hand, and the loss of a step on them, for tests of the engine."""

from __future__ import annotations

import torch
from tiny import make_tiny
from torch import Tensor, nn

from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import CleanImage, segment_of
from lightbagel_core.model.sequence import ImageSegment
from lightbagel_core.model.understanding import Understanding, VitImage
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.loss import Drawing, Pass, noised

PATCH = 2


def drawing(model: LightBagel | None = None) -> Drawing:
    """The tiny model's DiT and fusion stack, all of it trained, with its frozen VLM beside them."""
    model = model or make_tiny()
    made = Drawing(model.gen, model.fusion, SDPA, model.und)
    made.gen.requires_grad_(True)
    made.fusion.requires_grad_(True)
    return made


def sample(und: Understanding, words: str, sources: int = 0, rows: int = 2, cols: int = 3, seed: int = 0) -> Sample:
    """A target of rows x cols tokens after `sources` pictures, each as the DiT and as the VLM sees it, and a text."""
    generator = torch.Generator().manual_seed(seed)

    def latents(rows: int, cols: int) -> Tensor:
        return torch.randn(48, PATCH * rows, PATCH * cols, generator=generator)

    contents: list = []
    for number in range(sources):
        contents.append(CleanImage(latents(2, 2 + number % 2)))
        contents.append(VitImage(torch.randn(4, 64, generator=generator), 2, 2))
    contents.append(tuple(und.text_ids(words)))
    segments = (*(segment_of(content, PATCH) for content in contents), ImageSegment("noised", rows, cols))
    return Sample(segments, [*contents, None], latents(rows, cols), sources > 0)


def batch(und: Understanding) -> list[Sample]:
    """Four samples: two texts to images, of two sizes, an edit and one with three sources."""
    return [
        sample(und, "a red circle", seed=1),
        sample(und, "make the circle blue", sources=1, seed=2),
        sample(und, "a blue square", rows=3, cols=2, seed=3),
        sample(und, "a small green star on the left", sources=3, rows=2, cols=2, seed=4),
    ]


def passes(samples: list[Sample], seed: int = 0) -> list[Pass]:
    """One pass for each sample, with noise and time of its own."""
    return [noised([each], [(seed, number)], 4.0) for number, each in enumerate(samples)]


def tokens(step: list[Pass]) -> int:
    """The noised tokens of a step."""
    return sum(sum(each.tokens(PATCH)) for each in step)


def units(module: Drawing) -> list[nn.Module]:
    """What of it the engine handles on its own: blocks, fusion layers, and the VLM's layers where it is there."""
    read = [] if module.und is None else module.und.vlm.model.language_model.layers
    return [*read, *module.gen.blocks, *module.fusion.layers]
