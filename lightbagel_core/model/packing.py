"""The constant tokens of a batch, each once: samples that begin alike share what they begin with. Pure, torch only.

The branches of guidance differ at the end of their sequences: an edit's negative branch has the same pictures before
another text. No token sees a later one, so what two samples begin with is the same in both, and is computed once. The
noised tokens are not constant and not in here.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .sequence import Layout


@dataclass(frozen=True, eq=False)
class CleanTokens:
    """The N tokens of one clean source image.

    at: (sample, segment) of its first appearance.
    own: int64 [N], where they stand among all constant tokens.
    seen: int64 [S], the constant tokens that each of them attends to, themselves included.
    """

    at: tuple[int, int]
    own: Tensor
    seen: Tensor


@dataclass(frozen=True, eq=False)
class Pack:
    """U und tokens, then the clean tokens of all source images, of B samples whose targets have N tokens.

    order: (sample, segment) of the first appearance of each segment with und tokens, in the order of these.
    positions: int64 [3, U + clean].
    und_visible: bool [U, U].
    clean: the source images.
    prefix: per sample, its constant tokens, int64 [P_b].
    noised_positions: int64 [3, B, N].
    """

    order: list[tuple[int, int]]
    positions: Tensor
    und_visible: Tensor
    clean: list[CleanTokens]
    prefix: list[Tensor]
    noised_positions: Tensor

    @property
    def und(self) -> int:
        """U."""
        return len(self.und_visible)


def pack(layouts: Sequence[Layout], contents: Sequence[Sequence[Hashable]]) -> Pack:
    """Packs samples.

    Args:
        layouts: per sample, the noised target last and of one size for all.
        contents: per sample, what its segments before the target hold; equal only where the tokens are equal.
    """
    order: list[tuple[int, int]] = []
    und_positions: list[Tensor] = []
    clean_positions: list[Tensor] = []
    numbers: dict[Any, tuple[Tensor, Tensor]] = {}  # by all segments up to one: its und and its clean tokens
    und_of: list[Tensor] = []
    clean_of: list[Tensor] = []
    first: list[tuple[int, int, Tensor]] = []
    u = c = 0
    for b, (layout, content) in enumerate(zip(layouts, contents, strict=True)):
        key: Any = None
        found = []
        for s, what in enumerate([*content, None]):
            key = (key, what)
            if key not in numbers:
                own = layout.segment == s
                und = (own & layout.und).nonzero()[:, 0]
                clean = (own & ~layout.und).nonzero()[:, 0][: 0 if s == len(content) else None]
                numbers[key] = u + torch.arange(len(und)), c + torch.arange(len(clean))
                u, c = u + len(und), c + len(clean)
                order.append((b, s))
                und_positions.append(layout.positions[:, und])
                clean_positions.append(layout.positions[:, clean])
                if len(clean):
                    first.append((b, s, numbers[key][1]))
            found.append(numbers[key])
        und_of.append(torch.cat([und for und, _ in found]))
        clean_of.append(torch.cat([clean for _, clean in found]))
    visible = torch.zeros(u, u, dtype=torch.bool)
    prefix, noised = [], []
    constant = []  # per sample, where its constant tokens stand in its own sequence, in the order of `prefix`
    for layout, und, clean in zip(layouts, und_of, clean_of, strict=True):
        target = layout.segment == layout.segment[-1]
        visible[und[:, None], und] = layout.visible[layout.und][:, layout.und]
        prefix.append(torch.cat([und, u + clean]))
        noised.append(layout.positions[:, target & ~layout.und])
        constant.append(torch.cat([layout.und.nonzero()[:, 0], (~target & ~layout.und).nonzero()[:, 0]]))
    sources = []
    for b, s, clean in first:
        token = ((layouts[b].segment == s) & ~layouts[b].und).nonzero()[0, 0]  # all of an image see the same
        seen = prefix[b][layouts[b].visible[token, constant[b]]]
        sources.append(CleanTokens((b, s), u + clean, seen))
    positions = torch.cat([*und_positions, *clean_positions], dim=1)
    return Pack(order, positions, visible, sources, prefix, torch.stack(noised, dim=1))
