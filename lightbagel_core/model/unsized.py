"""The VLM's states before the target's size is known, as hosts need that encode prompts in a node of their own.

Of the und tokens only the target's two markers depend on its size, and on nothing of it but its longer side (the
position of the end marker). They are computed once for each longer side of 1 .. SIDES tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from .forward import CleanImage, Content, EncodedSegment, hashable, segment_of, und_states
from .packing import pack
from .sequence import ImageSegment, Segment, lay_out
from .understanding import Understanding

SIDES = 64  # tokens on the longer side of a target, at most


def und_states_for_any_size(und: Understanding, sample: Sequence[Content], patch: int) -> list[Tensor]:
    """The VLM's states of one sample after each layer: depth x [1, 2 * SIDES + U, und_dim].

    First the target's two markers for each longer side, then the U und tokens of the sample's own segments.
    """
    segments = [segment_of(content, patch) for content in sample]
    sides = range(1, SIDES + 1)
    layouts = [lay_out([*segments, ImageSegment("noised", 1, side)]) for side in sides]
    held = [hashable(content) for content in sample]
    tokens = pack(layouts, [[*held, side] for side in sides])
    own = sum(segment.und_tokens for segment in segments)
    return [torch.cat([state[own:], state[:own]])[None] for state in und_states(und, tokens)]


def at_size(
    states: Tensor, segments: Sequence[Segment], contents: Sequence[Hashable], target: tuple[int, int]
) -> list[EncodedSegment]:
    """A sample's segments and its target of (rows, cols) tokens, as the VLM has read them.

    Args:
        states: [2 * SIDES + U, depth, und_dim], from `und_states_for_any_size`.
        contents: what its segments hold; equal only where the tokens are equal.

    Raises:
        ValueError: the target is larger than SIDES tokens.
    """
    side = max(target)
    if side > SIDES:
        raise ValueError(f"a picture may have at most {SIDES} tokens on its longer side, not {side}; make it smaller")
    states = states.movedim(1, 0)
    own = states[:, 2 * SIDES :].split([segment.und_tokens for segment in segments], dim=1)
    found = [
        EncodedSegment(content, each, content.latents if isinstance(content, CleanImage) else None)
        for content, each in zip(contents, own, strict=True)
    ]
    return [*found, EncodedSegment("target", states[:, 2 * side - 2 : 2 * side])]
