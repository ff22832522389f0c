"""VLM, DiT and fusion stack as one model: context first, then velocity. The paper's figure 2, in its order.

Nothing but the noised tokens depends on the denoising step. `encode` therefore runs the VLM over all und tokens and the
DiT over the clean source images (t = 0) once, and keeps, for every fusion layer, their keys and values: the prefix that
the noised tokens attend to. `velocity` is what a step costs: the DiT's blocks and, after each, one attention to prefix
and self. Both work on batches of samples with different contents, so guidance branches run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .fusion import FusionStack
from .generation import Generation
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

    keys, values: per fusion layer [B, H, P, D].
    rotary: M-RoPE tables of the target's tokens, [B, N, D] each.
    mask: bool [B, 1, 1, P + N], or None when all samples fill their prefix.
    learned: cross-attention states [1, L, dim].
    """

    keys: list[Tensor]
    values: list[Tensor]
    rotary: Rotary
    mask: Tensor | None
    learned: Tensor

    def rows(self, index: list[int]) -> Context:
        """The same for some of the samples, in this order; an index may be repeated; the first n are a view."""
        cos, sin = self.rotary
        at: Any = slice(len(index)) if index == list(range(len(index))) else index
        return Context(
            [k[at] for k in self.keys],
            [v[at] for v in self.values],
            (cos[at], sin[at]),
            None if self.mask is None else self.mask[at],
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


def und_states(und: Understanding, samples: Sequence[Sequence[Part]], layouts: Sequence[Layout]) -> list[Tensor]:
    """The VLM's states after each layer, depth x [B, U, hidden]; shorter samples are padded at the end."""
    vlm_parts = [[None if isinstance(p, CleanImage) else p for p in parts] + [None] for parts in samples]
    rows = [und.und_embeddings(parts) for parts in vlm_parts]
    width = max(len(row) for row in rows)
    embeddings = torch.stack([F.pad(row, (0, 0, 0, width - len(row))) for row in rows])
    positions = torch.zeros(3, len(rows), width, dtype=torch.long)
    visible = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)
    for b, layout in enumerate(layouts):
        n = len(rows[b])
        positions[:, b, :n], visible[b, :n, :n] = _und_only(layout)
    return und.und_states(embeddings, positions.to(und.device), visible.to(und.device))


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


@dataclass(frozen=True, eq=False)
class _Tables:
    """Where every token of a batch stands. U, C: most und and most clean tokens of a sample; padding is masked."""

    und_positions: Tensor  # int64 [3, B, U]
    clean_positions: Tensor  # int64 [3, B, C]
    noised_positions: Tensor  # int64 [3, B, N]
    clean_valid: Tensor  # bool [B, C]
    clean_mask: Tensor  # bool [B, 1, C, U + C]
    prefix_valid: Tensor  # bool [B, U + C]


def _tables(layouts: Sequence[Layout]) -> _Tables:
    und, clean, noised = [], [], []
    for layout in layouts:
        target = layout.segment == layout.segment[-1]
        und.append(layout.und.nonzero()[:, 0])
        clean.append((~layout.und & ~target).nonzero()[:, 0])
        noised.append((~layout.und & target).nonzero()[:, 0])
    batch, u, c = len(layouts), max(map(len, und)), max(map(len, clean))
    und_positions = torch.zeros(3, batch, u, dtype=torch.long)
    clean_positions = torch.zeros(3, batch, c, dtype=torch.long)
    prefix_valid = torch.zeros(batch, u + c, dtype=torch.bool)
    clean_mask = torch.zeros(batch, c, u + c, dtype=torch.bool)
    for b, layout in enumerate(layouts):
        nu, nc = len(und[b]), len(clean[b])
        und_positions[:, b, :nu] = layout.positions[:, und[b]]
        clean_positions[:, b, :nc] = layout.positions[:, clean[b]]
        prefix_valid[b, :nu] = True
        prefix_valid[b, u : u + nc] = True
        clean_mask[b, :nc, :nu] = layout.visible[clean[b]][:, und[b]]
        clean_mask[b, :nc, u : u + nc] = layout.visible[clean[b]][:, clean[b]]
        clean_mask[b, nc:, 0] = True  # a padding row must see something, or softmax gives NaN
    return _Tables(
        und_positions,
        clean_positions,
        torch.stack([layout.positions[:, at] for layout, at in zip(layouts, noised, strict=True)], dim=1),
        prefix_valid[:, u:],
        clean_mask[:, None],
        prefix_valid,
    )


class _CleanPass:
    """The source images' way through the DiT at t = 0: each alone in self-attention, together only in the fusion.

    Images of one size run as one batch. `tokens` gathers them per sample, `add` hands the fusion's update back.
    """

    def __init__(self, gen: Generation, images: list[list[Tensor]], learned: Tensor) -> None:
        flat = [(b, latents) for b, row in enumerate(images) for latents in row]
        sizes = sorted({tuple(x.shape[-2:]) for _, x in flat})
        self.gen, self.learned = gen, learned
        self.hidden, self.rotary = [], []
        span: dict[int, range] = {}
        start = 0
        for size in sizes:
            members = [i for i, (_, x) in enumerate(flat) if tuple(x.shape[-2:]) == size]
            tokens, rotary = gen.embed(torch.stack([flat[i][1] for i in members]))
            self.hidden.append(tokens)
            self.rotary.append(rotary)
            for i in members:
                span[i] = range(start, start + tokens.shape[1])
                start += tokens.shape[1]
        per_sample = [
            [t for i, (owner, _) in enumerate(flat) if owner == b for t in span[i]] for b in range(len(images))
        ]
        width = max(map(len, per_sample))
        self.index = torch.tensor([row + [0] * (width - len(row)) for row in per_sample], device=learned.device)
        _, self.modulation = gen.time(torch.zeros(1, device=learned.device))

    def block(self, number: int) -> Tensor:
        """Runs DiT block `number`; all clean tokens per sample, [B, C, dim]."""
        block = self.gen.blocks[number]
        for i, (h, rotary) in enumerate(zip(self.hidden, self.rotary, strict=True)):
            n = len(h)
            self.hidden[i] = block(h, self.learned.expand(n, -1, -1), self.modulation.expand(n, -1, -1), rotary)
        return torch.cat([h.flatten(0, 1) for h in self.hidden])[self.index]

    def add(self, update: Tensor, valid: Tensor) -> None:
        flat = torch.cat([h.flatten(0, 1) for h in self.hidden])
        flat = flat.index_add(0, self.index[valid], update[valid].type_as(flat))
        parts = flat.split([h.shape[0] * h.shape[1] for h in self.hidden])
        self.hidden = [part.view_as(h) for part, h in zip(parts, self.hidden, strict=True)]


def prefix(
    gen: Generation,
    fusion: FusionStack,
    layouts: Sequence[Layout],
    states: Sequence[Tensor],
    clean: list[list[Tensor]],
) -> Context:
    """The context of B samples from their und states and clean latents.

    Args:
        layouts: per sample, the noised target last and of one size for all.
        states: from `und_states`.
        clean: per sample, its source images' latents [C, h, w] in order.
    """
    config, device = fusion.config, states[0].device
    tables = _tables(layouts)

    def rotary(positions: Tensor) -> Rotary:
        return mrope(positions.to(device), config.head_dim, config.rope_theta, config.mrope_section)

    learned = gen.learned_context(fusion.context.to(gen.dtype))
    und_rotary, clean_rotary = rotary(tables.und_positions), rotary(tables.clean_positions)
    sources = _CleanPass(gen, clean, learned) if any(clean) else None
    clean_mask, clean_valid = tables.clean_mask.to(device), tables.clean_valid.to(device)
    keys, values = [], []
    for i in range(config.layers):
        layer = fusion[i]
        k, v = layer.und_key_value(states[config.und_layer(i)], und_rotary, gen.dtype)
        if sources is not None:
            q, k_clean, v_clean = layer.gen_query_key_value(sources.block(i), clean_rotary)
            k, v = torch.cat([k, k_clean.type_as(k)], dim=2), torch.cat([v, v_clean.type_as(v)], dim=2)
            sources.add(layer.update(q, k, v, clean_mask), clean_valid)
        keys.append(k)
        values.append(v)
    noised_rotary = rotary(tables.noised_positions)
    mask = None
    if not tables.prefix_valid.all():
        own = torch.ones(len(layouts), noised_rotary[0].shape[1], dtype=torch.bool)
        mask = torch.cat([tables.prefix_valid, own], dim=1)[:, None, None].to(device)
    return Context(keys, values, noised_rotary, mask, learned)


def clean_latents(samples: Sequence[Sequence[Part]]) -> list[list[Tensor]]:
    """Per sample, the latents of its source images in order."""
    return [[p.latents for p in parts if isinstance(p, CleanImage)] for parts in samples]


def velocity(gen: Generation, fusion: FusionStack, latents: Tensor, t: Tensor, context: Context) -> Tensor:
    """The velocity n - x at x_t, float32 [B, C, h, w].

    Args:
        latents: x_t, [B, C, h, w].
        t: flow times in 0..1, [B].
        context: of B samples and this size of target.
    """
    tokens, rotary = gen.embed(latents)
    temb, modulation = gen.time(t)
    learned = context.learned.expand(len(tokens), -1, -1)
    for i, block in enumerate(gen.blocks):
        tokens = block(tokens, learned, modulation, rotary)
        if i < fusion.config.layers:
            layer = fusion[i]
            q, k, v = layer.gen_query_key_value(tokens, context.rotary)
            k = torch.cat([context.keys[i], k.type_as(context.keys[i])], dim=2)
            v = torch.cat([context.values[i], v.type_as(context.values[i])], dim=2)
            tokens = tokens + layer.update(q.type_as(k), k, v, context.mask)
    return gen.head(tokens, temb, gen.grid(*latents.shape[-2:]))
