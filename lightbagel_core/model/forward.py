"""VLM, DiT and fusion stack as one model: context first, then velocity. The paper's figure 2, in its order.

Nothing but the noised tokens depends on the denoising step. `encode` therefore runs the VLM over all und tokens and the
DiT over the clean source images (t = 0) once, and keeps, for every fusion layer, their keys and values: the prefix that
the noised tokens attend to. What samples begin with in common is computed once for all of them (see `pack`). `velocity`
is what a step costs: the DiT's blocks and, after each, one attention to prefix and self. Both work on batches of
samples with different contents, so guidance branches run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import Attention, Reach
from .fusion import FusionStack
from .generation import Generation
from .packing import Pack, pack
from .sequence import SIDES, ImageSegment, Layout, Rotary, Segment, TextSegment, lay_out, mrope
from .understanding import Understanding, VitImage


@dataclass(frozen=True, eq=False)
class CleanImage:
    """A source image as normalised VAE latents, [C, h, w]."""

    latents: Tensor


Part = list[int] | VitImage | CleanImage


@dataclass(frozen=True, eq=False)
class Context:
    """All that stays constant over a run, for B samples whose target has N tokens.

    keys, values: per fusion layer [B, P + N, H, D]: a sample's prefix, at the end of the first P, then room for its
        noised tokens' own, which every step writes. So a context serves one step at a time.
    reach: how many of the P + N each sample attends to.
    rotary: M-RoPE tables of the target's tokens, [B, N, D] each.
    own_rotary: Wan's own rotary tables of the target.
    learned: per DiT block, cross-attention keys and values of the learned context, [2, 1, L, H, D].
    """

    keys: list[Tensor]
    values: list[Tensor]
    reach: Reach
    rotary: Rotary
    own_rotary: Rotary
    learned: list[Tensor]

    def rows(self, index: list[int]) -> Context:
        """The same for some of the samples, in this order; an index may be repeated; the first n are a view."""
        cos, sin = self.rotary
        at: Any = slice(len(index)) if index == list(range(len(index))) else index
        return Context(
            [k[at] for k in self.keys],
            [v[at] for v in self.values],
            self.reach.rows(index),
            (cos[at], sin[at]),
            self.own_rotary,
            self.learned,
        )


def segment(part: Part, patch: int) -> Segment:
    """What a part is in the sequence; `patch` is the DiT's latents per token side."""
    if isinstance(part, VitImage):
        return ImageSegment("vit", part.rows, part.cols)
    if isinstance(part, CleanImage):
        height, width = part.latents.shape[-2:]
        return ImageSegment("clean", height // patch, width // patch)
    return TextSegment(len(part))


def layout_of(parts: Sequence[Part], patch: int, target: tuple[int, int]) -> Layout:
    """The layout of one sample: its parts, then the noised target of (rows, cols) tokens."""
    return lay_out([*(segment(part, patch) for part in parts), ImageSegment("noised", *target)])


def packed(samples: Sequence[Sequence[Part]], layouts: Sequence[Layout]) -> Pack:
    """The samples' constant tokens, each once; an image is the same where it is the same object."""
    return pack(layouts, [[tuple(p) if isinstance(p, list) else p for p in parts] for parts in samples])


def und_states(und: Understanding, samples: Sequence[Sequence[Part]], tokens: Pack) -> list[Tensor]:
    """The VLM's states of all und tokens after each layer, depth x [U, hidden]."""
    parts = [samples[b][s] if s < len(samples[b]) else None for b, s in tokens.order]
    embeddings = und.und_embeddings([None if isinstance(p, CleanImage) else p for p in parts])
    positions, visible = tokens.positions[:, None, : tokens.und], tokens.und_visible[None]
    states = und.und_states(embeddings[None], positions.to(und.device), visible.to(und.device))
    return [state[0] for state in states]


def und_states_for_any_size(und: Understanding, parts: Sequence[Part], patch: int) -> list[Tensor]:
    """The VLM's states of one sample whose target's size is not known yet: depth x [1, 2 * SIDES + U, hidden].

    Of the und tokens only the target's two markers depend on its size, and on nothing of it but its longer side (the
    position of the end marker). They stand once for each longer side of 1 .. SIDES tokens, before the U others.
    """
    segments = [segment(part, patch) for part in parts]
    markers = [_und_only(lay_out([*segments, ImageSegment("noised", side, side)])) for side in range(1, SIDES + 1)]
    u = markers[0][0].shape[1] - 2
    positions = torch.cat([markers[0][0][:, :u], *(place[:, u:] for place, _ in markers)], dim=1)
    visible = torch.block_diag(*[torch.ones(2, 2)] * SIDES).bool()
    visible = torch.cat([torch.ones(2 * SIDES, u, dtype=torch.bool), visible], dim=1)
    visible = torch.cat([F.pad(markers[0][1][:u, :u], (0, 2 * SIDES)), visible])
    embeddings = und.und_embeddings([*(None if isinstance(p, CleanImage) else p for p in parts), *[None] * SIDES])
    states = und.und_states(embeddings[None], positions[:, None].to(und.device), visible[None].to(und.device))
    return [torch.cat([state[:, u:], state[:, :u]], dim=1) for state in states]


def at_size(states: Tensor, target: tuple[int, int]) -> Tensor:
    """From states for any size [2 * SIDES + U, ...] those for a target of (rows, cols) tokens, [U + 2, ...].

    Raises:
        ValueError: the target is larger than SIDES tokens.
    """
    side = max(target)
    if side > SIDES:
        raise ValueError(f"a picture may have at most {SIDES} tokens on its longer side, not {side}; make it smaller")
    return torch.cat([states[2 * SIDES :], states[2 * side - 2 : 2 * side]])


def _und_only(layout: Layout) -> tuple[Tensor, Tensor]:
    """Positions and visibility of a layout's und tokens."""
    return layout.positions[:, layout.und], layout.visible[layout.und][:, layout.und]


@dataclass(eq=False)
class _Sources:
    """Clean source images of one size that see equally many tokens, on their way through the DiT.

    hidden: [n, N, dim]. own: [n, N], seen: [n, S], where tokens stand among all constant ones.
    """

    hidden: Tensor
    own_rotary: Rotary
    rotary: Rotary
    own: Tensor
    seen: Tensor


def prefix(
    gen: Generation,
    fusion: FusionStack,
    tokens: Pack,
    target: tuple[int, int],
    states: Sequence[Tensor],
    clean: Sequence[Tensor],
    learned: list[Tensor],
    attention: Attention,
) -> Context:
    """The context of B samples from their und states and clean latents.

    Args:
        target: its token rows and columns.
        states: depth x [U, und_dim], from `und_states`.
        clean: the latents [C, h, w] of the pack's source images.
        learned: from `Generation.learned_context`.
    """
    config, device = fusion.config, states[0].device
    positions = tokens.positions.to(device)

    def rotary(at: Tensor) -> Rotary:
        return mrope(at, config.head_dim, config.rope_theta, config.mrope_section)

    und_rotary = rotary(positions[:, None, : tokens.und])
    sources = []
    alike = {(x.shape, len(image.seen)) for image, x in zip(tokens.clean, clean, strict=True)}
    for shape, count in sorted(alike):
        members = [i for i, x in enumerate(clean) if (x.shape, len(tokens.clean[i].seen)) == (shape, count)]
        own = torch.stack([tokens.clean[i].own for i in members]).to(device)
        seen = torch.stack([tokens.clean[i].seen for i in members]).to(device)
        hidden = gen.embed(torch.stack([clean[i] for i in members]))
        own_rotary = gen.rotary(gen.grid(*shape[1:]), device)
        sources.append(_Sources(hidden, own_rotary, rotary(positions[:, own]), own, seen))
    still = gen.time(torch.zeros(1, device=device))[1] if sources else None

    batch, n = tokens.noised_positions.shape[1:]
    longest = max(map(len, tokens.prefix))
    index = torch.stack([F.pad(at, (longest - len(at), 0)) for at in tokens.prefix]).to(device)

    def with_room(x: Tensor) -> Tensor:
        """[T, H, D] of all constant tokens as the samples' buffer [B, P + N, H, D]."""
        buffer = x.new_empty(batch, longest + n, *x.shape[1:])
        buffer[:, :longest] = x[index]
        return buffer

    keys, values = [], []
    for i in range(config.layers):
        layer = fusion[i]
        k, v = (x[0] for x in layer.und_key_value(states[config.und_layer(i)][None], und_rotary, gen.dtype))
        k, v = (torch.cat([x, x.new_zeros(positions.shape[1] - tokens.und, *x.shape[1:])]) for x in (k, v))
        queries = []
        for group in sources:  # each image alone in self-attention, together only in the fusion
            group.hidden = gen.blocks[i](group.hidden, learned[i], still, group.own_rotary)
            q, own_k, own_v = layer.gen_query_key_value(group.hidden, group.rotary)
            k[group.own], v[group.own] = own_k.type_as(k), own_v.type_as(v)
            queries.append(q.type_as(k))
        for group, q in zip(sources, queries, strict=True):
            if i < config.layers - 1:  # after the last, nobody hears them again
                heard = layer.update(attention.dense(q, k[group.seen], v[group.seen]))
                group.hidden = group.hidden + heard.type_as(group.hidden)
        keys.append(with_room(k))
        values.append(with_room(v))
    lengths = tuple(len(at) + n for at in tokens.prefix)
    reach = Reach(longest + n, lengths, n, device)
    return Context(keys, values, reach, rotary(tokens.noised_positions.to(device)), gen.rotary(target, device), learned)


def velocity(
    gen: Generation, fusion: FusionStack, latents: Tensor, t: Tensor, context: Context, attention: Attention
) -> Tensor:
    """The velocity n - x at x_t, float32 [B, C, h, w].

    Args:
        latents: x_t, [B, C, h, w].
        t: flow times in 0..1, [B].
        context: of B samples and this size of target; the noised tokens' rows of its buffers are written.
    """
    tokens = gen.embed(latents)
    temb, modulation = gen.time(t)
    attend = partial(attention, reach=context.reach)
    for i, block in enumerate(gen.blocks):
        tokens = block(tokens, context.learned[i], modulation, context.own_rotary)
        if i < fusion.config.layers:
            tokens = fusion[i].listen(tokens, context.rotary, context.keys[i], context.values[i], attend)
    return gen.head(tokens, temb, gen.grid(*latents.shape[-2:]))
