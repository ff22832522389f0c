"""The flow matching loss of DiT, fusion stack and learned context (paper eq. 3; docs/model.md, section 7)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.attention import SDPA
from ..model.forward import EncodedSegment, encode, known_states, velocity
from ..model.fusion import FusionStack
from ..model.generation import Generation
from ..model.packing import pack
from ..model.sequence import TokenLayout
from ..sampling.schedule import add_noise, training_time


def flow_matching_errors(
    gen: Generation,
    fusion: FusionStack,
    layouts: Sequence[TokenLayout],
    segments: Sequence[Sequence[EncodedSegment]],
    targets: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The mean squared error of each sample's predicted velocity, [B], at one random time each.

    Args:
        layouts, segments: per sample; the noised target last, of one size for all.
        targets: normalised latents [B, C, h, w].
        generator: of noise and times, on the model's device.
    """
    device = fusion.context.device
    tokens = pack(layouts, segments)
    learned = gen.learned_context(fusion.context)
    context = encode(gen, fusion, tokens, known_states(tokens, device), learned, SDPA, gen.dtype, device)
    noise = torch.randn(targets.shape, generator=generator, device=device)
    t = training_time(torch.randn(len(targets), generator=generator, device=device))
    predicted = velocity(gen, fusion, add_noise(targets, noise, t), t, context, SDPA)
    return (predicted - (noise - targets)).square().mean((1, 2, 3))
