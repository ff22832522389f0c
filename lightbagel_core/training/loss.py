"""The flow matching loss of DiT, fusion stack and learned context (paper eq. 3; docs/model.md, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..model.attention import Attention
from ..model.forward import States, known_states, und_states
from ..model.fusion import FusionStack
from ..model.generation import Generation
from ..model.joint import velocities
from ..model.packing import Pack, pack
from ..model.understanding import Understanding
from ..sampling.schedule import add_noise, training_time
from .data.samples import Sample, VitPicture


@dataclass(frozen=True, eq=False)
class Pass:
    """What goes through a device at once.

    t: the flow time of each sample, [B]. noise: of each, like its target.
    """

    samples: Sequence[Sample]
    t: Tensor
    noise: Sequence[Tensor]

    def tokens(self, patch: int) -> list[int]:
        """How many noised tokens each sample has."""
        return [sample.target.shape[-2] * sample.target.shape[-1] // patch**2 for sample in self.samples]


def noised(samples: Sequence[Sample], keys: Sequence[tuple[int, ...]], shift: float) -> Pass:
    """A pass with times and noise that depend on each sample's key alone, wherever and beside whatever it is."""
    normal, noise = [], []
    for sample, key in zip(samples, keys, strict=True):
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1)
        normal.append(torch.randn((), generator=generator))
        noise.append(torch.randn(sample.target.shape, generator=generator))
    return Pass(samples, training_time(torch.stack(normal), shift), noise)


class Drawing(nn.Module):
    """DiT and fusion stack, and the VLM where it runs beside them, as the one module that an engine wraps.

    Args:
        und: None where all samples come with the VLM's states.
    """

    def __init__(
        self, gen: Generation, fusion: FusionStack, attention: Attention, und: Understanding | None = None
    ) -> None:
        super().__init__()
        self.gen, self.fusion, self.und = gen, fusion, und
        self.attention = attention
        gen.use_attention(attention)
        if und is not None:
            _freeze_unread(und, max(map(fusion.config.und_layer, range(fusion.config.layers)), default=-1))

    def forward(self, batch: Pass) -> Tensor:
        """Of each sample the sum over its noised tokens of the mean squared error of their velocity: float32 [B]."""
        device = self.fusion.context.device
        patch = self.gen.patch
        tokens = pack([s.layout for s in batch.samples], [s.contents for s in batch.samples])
        read = known_states(tokens, device) if self.und is None else self._live(self.und, tokens)
        t = batch.t.to(device)
        targets = [x.to(device, torch.float32) for x in _stacked([sample.target for sample in batch.samples])]
        noise = [x.to(device) for x in _stacked(batch.noise)]
        counts = [len(x) for x in targets]
        x = [add_noise(*given) for given in zip(targets, noise, t.split(counts), strict=True)]
        drawn = velocities(self.gen, self.fusion, tokens, read, [row for rows in x for row in rows], t, self.attention)
        errors = [
            (v - (n - x)).square().mean(1).sum((1, 2)) / patch**2
            for v, n, x in zip(_stacked(drawn), noise, targets, strict=True)
        ]
        return torch.cat(errors)

    def _live(self, und: Understanding, tokens: Pack) -> States:
        trained = any(weight.requires_grad for weight in und.parameters())
        pictures = [content for content in tokens.contents if isinstance(content, VitPicture)]
        side = 2 * und.processor.patch_size * und.processor.merge_size
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            # Processes that share the ViT call it equally often: one without pictures has it see an empty one.
            shown = [picture.image for picture in pictures] or [Image.new("RGB", (side, side))] * trained
            seen = und.vit_images(shown)
            features = {id(picture): image for picture, image in zip(pictures, seen, strict=False)}
            contents = [features.get(id(content), content) for content in tokens.contents]
            states = und_states(und, replace(tokens, contents=contents))
            if seen and not pictures:
                nothing = 0 * seen[0].features.sum()
                states = [state + nothing for state in states]
        return states.__getitem__


def _freeze_unread(und: Understanding, last: int) -> None:
    """Freezes what of a VLM no drawing reads: layers after the last one that is read, the final norm, and the head."""
    language, head = und.vlm.model.language_model, und.vlm.lm_head
    tied = head.weight is und.vlm.get_input_embeddings().weight
    for module in (*language.layers[last + 1 :], language.norm, *([] if tied else [head])):
        module.requires_grad_(False)


def _stacked(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Latents [C, h, w], neighbours of one size as one tensor [n, C, h, w]."""
    return [torch.stack(list(same)) for _, same in groupby(pictures, key=lambda x: x.shape)]
