"""Segments to token order, M-RoPE positions, and who sees whom. Pure, torch only; the one home of these three facts.

A sample is a list of segments: text, ViT image, clean VAE image, and last the noised VAE image that is being drawn. Two
streams run through it. Text, ViT tokens and every marker (`<|vision_start|>`, `<|vision_end|>`, also those around VAE
tokens) are *und* tokens and pass through the VLM; VAE tokens are *gen* tokens and pass through the DiT.

(docs/model.md, sections 4 and 5; paper section 3.2)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextSegment:
    """`<|im_start|>` tokens `<|im_end|>`; `length` counts the two markers."""

    length: int

    @property
    def und_tokens(self) -> int:
        return self.length

    @property
    def span(self) -> int:
        """How many positions it takes: the next segment begins so much later."""
        return self.length


@dataclass(frozen=True)
class ImageSegment:
    """`<|vision_start|>` rows x cols tokens `<|vision_end|>`. `vit` tokens are und, the other two gen."""

    kind: Literal["vit", "clean", "noised"]
    rows: int
    cols: int

    @property
    def length(self) -> int:
        return self.rows * self.cols + 2

    @property
    def und_tokens(self) -> int:
        """Its markers, and all of a ViT image."""
        return self.length if self.kind == "vit" else 2

    @property
    def span(self) -> int:
        """How many positions it takes: its tokens stand in a grid, so it is as long as its longer side."""
        return max(self.rows, self.cols) + 2


Segment = TextSegment | ImageSegment
SIDES = 64  # tokens on the longer side of a target, at most, where prompts are encoded before its size is known
Rotary = tuple[Tensor, Tensor]  # cos and sin


@dataclass(frozen=True, eq=False)
class TokenLayout:
    """Every token of a sample in sequence order, N of them.

    positions: int64 [3, N], rows t, h, w.
    und:       bool [N], whether a token belongs to the und stream (else gen).
    segment:   int64 [N], the index of the segment a token belongs to.
    visible:   bool [N, N], `visible[q, k]` is whether token q attends to token k.
    """

    positions: Tensor
    und: Tensor
    segment: Tensor
    visible: Tensor


def check_positions(segments: Iterable[Segment], most: int | None) -> None:
    """Raises ValueError for a drawing's segments that need more positions than the VLM has; None: it has no bound."""
    count = sum(segment.span for segment in segments)
    if most is not None and count > most:
        raise ValueError(
            f"this drawing's context needs {count} positions, and the VLM has {most}: use a shorter text, fewer or "
            "smaller pictures, or fewer earlier turns"
        )


def text_positions(start: int, length: int) -> Tensor:
    """int64 [3, length]: all three rows run on together."""
    return torch.arange(start, start + length).expand(3, -1)


def image_positions(start: int, rows: int, cols: int) -> Tensor:
    """int64 [3, rows*cols + 2]: the start marker, the grid row by row, the end marker one past the largest position."""
    grid = torch.stack(
        [
            torch.full((rows, cols), start + 1),
            start + 1 + torch.arange(rows)[:, None].expand(rows, cols),
            start + 1 + torch.arange(cols)[None, :].expand(rows, cols),
        ]
    ).flatten(1)
    end = int(grid.max()) + 1
    return torch.cat([torch.full((3, 1), start), grid, torch.full((3, 1), end)], dim=1)


def lay_out(segments: Sequence[Segment]) -> TokenLayout:
    """The token layout of a list of segments (docs/model.md, sections 4 and 5).

    Raises:
        ValueError: no segment, an empty image, or a noised segment that is not the last.
    """
    if not segments:
        raise ValueError("a sample needs at least one segment")
    for number, segment in enumerate(segments):
        if isinstance(segment, ImageSegment):
            if segment.rows < 1 or segment.cols < 1:
                raise ValueError(f"segment {number} is an image of {segment.rows}x{segment.cols} tokens")
            if segment.kind == "noised" and number != len(segments) - 1:
                raise ValueError("the noised image must be the last segment: no token may follow it")
    positions, und, index, causal, noised = [], [], [], [], []
    start = 0
    for number, segment in enumerate(segments):
        n = segment.length
        if isinstance(segment, TextSegment):
            place = text_positions(start, n)
            stream = torch.ones(n, dtype=torch.bool)
        else:
            place = image_positions(start, segment.rows, segment.cols)
            stream = torch.full((n,), segment.kind == "vit")
            stream[[0, -1]] = True
        start = int(place.max()) + 1
        positions.append(place)
        und.append(stream)
        index.append(torch.full((n,), number))
        causal.append(isinstance(segment, TextSegment))
        noised.append(isinstance(segment, ImageSegment) and segment.kind == "noised")
    segment_of = torch.cat(index)
    same = segment_of[:, None] == segment_of[None, :]
    earlier = segment_of[:, None] > segment_of[None, :]
    order = torch.arange(len(segment_of))
    in_order = order[:, None] >= order[None, :]
    inside = same & (in_order | ~torch.tensor(causal)[segment_of][:, None])
    visible = inside | (earlier & ~torch.tensor(noised)[segment_of][None, :])
    return TokenLayout(torch.cat(positions, dim=1), torch.cat(und), segment_of, visible)


def mrope(positions: Tensor, head_dim: int, theta: float, section: Sequence[int]) -> Rotary:
    """Rotary tables for three-row positions, as Qwen2-VL splits the frequencies (`section` in t, h, w order).

    Args:
        positions: int64 [3, ..., N].
    Returns:
        cos and sin, float32 [..., N, head_dim], for the rotate-half convention.
    """
    if sum(section) * 2 != head_dim:
        raise ValueError(
            f"mrope_section {list(section)} sums to {sum(section)}, head_dim {head_dim} needs {head_dim // 2}"
        )
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    row = torch.repeat_interleave(torch.arange(3), torch.tensor(section)).to(positions.device)
    angle = positions.float().movedim(0, -1)[..., row] * (1.0 / theta**exponent)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()
