"""The VLM's states before the target's size is known, as hosts need that encode prompts in a node of their own.

Of the und tokens only the target's two markers depend on its size, and on nothing of it but its longer side (the
position of the end marker). They are computed once for each longer side of 1 .. SIDES tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, DynamicCache

from .forward import Content, EncodedSegment, as_read, segment_of
from .packing import pack
from .sequence import SIDES, ImageSegment, Segment, lay_out
from .understanding import Understanding


def und_states_for_any_size(
    und: Understanding,
    sample: Sequence[Content],
    patch: int,
    before: Sequence[Segment] = (),
    cache: Cache | None = None,
) -> list[Tensor]:
    """The VLM's states of one sample after each layer: depth x [1, 2 * SIDES + U, und_dim].

    First the target's two markers for each longer side, then the U und tokens of the sample's own segments.

    Args:
        before: segments that stand before the sample's and were read in an earlier call: they are not read again, and
            their states are not among the result.
        cache: their keys and values, to which those of the sample's U tokens, and then of the markers, are added.
    """
    segments = [*before, *(segment_of(content, patch) for content in sample)]
    layout = lay_out([*segments, ImageSegment("noised", 1, 1)])
    tokens = pack([layout], [[*before, *sample, None]], [range(len(segments) + 1)])
    u, k = tokens.positions.shape[1] - 2, sum(segment.und_tokens for segment in before)
    markers = tokens.positions[:, u:].repeat(1, SIDES)
    markers[:, 1::2] += torch.arange(SIDES)  # the end marker moves with the side, by one for each token
    pairs = torch.block_diag(*[torch.ones(2, 2)] * SIDES).bool()
    visible = torch.cat([F.pad(tokens.visible[k:u, :u], (0, 2 * SIDES)), F.pad(pairs, (u, 0), value=True)])
    embeddings = und.und_embeddings([*map(as_read, sample), *[None] * SIDES])
    positions = torch.cat([tokens.positions[:, k:u], markers], dim=1)
    states = und.und_states(embeddings[None], positions[:, None].to(und.device), visible[None].to(und.device), cache)
    return [torch.cat([state[:, u - k :], state[:, : u - k]], dim=1) for state in states]


def filled(read: Sequence[Tensor], device: torch.device) -> DynamicCache:
    """A cache of what was read, [depth, 2, heads, n, head_dim] each, one after the other."""
    cache = DynamicCache()
    for layers in zip(*read, strict=True):
        keys, values = torch.cat([layer.to(device) for layer in layers], dim=-2)[:, None].unbind(0)
        cache.update(keys, values, len(cache.layers))
    return cache


def newly_read(cache: DynamicCache, start: int, tokens: int) -> Tensor:
    """Keys and values of some tokens in a cache of one sample, [depth, 2, heads, tokens, head_dim]."""
    at = slice(start, start + tokens)
    return torch.stack([torch.stack([layer.keys[0, :, at], layer.values[0, :, at]]) for layer in cache.layers])


def at_size(
    states: Tensor, segments: Sequence[Segment], latents: Sequence[Tensor | None], target: tuple[int, int]
) -> list[EncodedSegment]:
    """A sample's segments and its target of (rows, cols) tokens, as the VLM has read them.

    Args:
        states: [2 * SIDES + U, depth, und_dim], from `und_states_for_any_size`.
        latents: of each segment, [C, h, w] of a clean image.

    Raises:
        ValueError: the target is larger than SIDES tokens.
    """
    side = max(target)
    if side > SIDES:
        raise ValueError(f"a picture may have at most {SIDES} tokens on its longer side, not {side}; make it smaller")
    states = states.movedim(1, 0)
    own = states[:, 2 * SIDES :].split([segment.und_tokens for segment in segments], dim=1)
    found = [EncodedSegment(each, clean) for each, clean in zip(own, latents, strict=True)]
    return [*found, EncodedSegment(states[:, 2 * side - 2 : 2 * side])]
