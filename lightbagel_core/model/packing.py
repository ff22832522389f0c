"""The constant tokens of a batch, each once: samples that begin alike share what they begin with. Pure, torch only.

The branches of guidance differ at the end of their sequences: an edit's negative branch has the same pictures before
another text. No token sees a later one, so what two samples begin with is the same in both, and is computed once. The
noised tokens are not constant and are no part of a pack.

A sample's constant tokens are its *prefix*: its und tokens in order, then its clean tokens in order. In buffers of P
columns, one row a sample, a prefix stands at the end; what is before a shorter one is never attended to.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .sequence import TokenLayout


@dataclass(frozen=True, eq=False)
class CleanTokens:
    """The N tokens of one clean source image, which several samples may have.

    content: what its segment holds. key: those of all segments up to it; where keys are equal, so are tokens.
    positions: int64 [3, N].
    places: (row, first column) of its tokens in the buffers, for each sample that has it.
    attended: int64 [S], the columns, in the first of these rows, that its tokens attend to, themselves included.
    """

    content: Any
    key: Hashable
    positions: Tensor
    attended: Tensor
    places: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Pack:
    """U distinct und tokens and the clean source images of B samples.

    contents: what each distinct segment holds, in the order of the und tokens (every segment has some).
    positions: int64 [3, U]. layouts: of the samples.
    und: per sample, which of the U are its own, int64 [U_b], in sequence order.
    images: the distinct clean images, none before one that it attends to.
    lengths: per sample, the number of its constant tokens.
    noised_positions: per sample, int64 [3, N] of its target's tokens.
    """

    contents: list[Any]
    positions: Tensor
    layouts: Sequence[TokenLayout]
    und: list[Tensor]
    images: list[CleanTokens]
    lengths: tuple[int, ...]
    noised_positions: list[Tensor]

    @property
    def width(self) -> int:
        """P, the length of the longest prefix."""
        return max(self.lengths)

    @property
    def visible(self) -> Tensor:
        """bool [U, U], who sees whom among the und tokens."""
        visible = torch.zeros(self.positions.shape[1], self.positions.shape[1], dtype=torch.bool)
        for layout, mine in zip(self.layouts, self.und, strict=True):
            visible[mine[:, None], mine] = layout.visible[layout.und][:, layout.und]
        return visible

    @property
    def und_index(self) -> Tensor:
        """int64 [B, P]: which und token stands in each column of the buffers; 0 where none does."""
        rows = []
        for und, length in zip(self.und, self.lengths, strict=True):
            rows.append(F.pad(und, (self.width - length, length - len(und))))
        return torch.stack(rows)


def pack(
    layouts: Sequence[TokenLayout], contents: Sequence[Sequence[Any]], keys: Sequence[Sequence[Hashable]] | None = None
) -> Pack:
    """Packs samples whose last segment is the noised target.

    Args:
        layouts: one per sample.
        contents: per sample, what its segments hold, the target's last.
        keys: per sample, one for each segment; equal only where what the segments hold is equal. Default: the contents
            themselves.
    """
    distinct: dict[Hashable, Tensor] = {}  # by all segments up to one: the numbers of its und tokens
    images: dict[Hashable, CleanTokens] = {}
    held: list[Any] = []
    positions: list[Tensor] = []
    und: list[Tensor] = []
    count = 0
    found = [_Tokens(layout) for layout in layouts]
    lengths = tuple(len(tokens.prefix) for tokens in found)
    width = max(lengths)
    keys = contents if keys is None else keys
    for b, (layout, tokens, content) in enumerate(zip(layouts, found, contents, strict=True)):
        key: Hashable = None
        own = []
        end = int(layout.positions.max())  # the position of the target's end marker depends on the target's size
        first = width - lengths[b] + len(tokens.und)  # the column of the first clean token
        named = zip(content, [*keys[b][:-1], (keys[b][-1], end)], strict=True)
        for (what, own_key), of_und, of_gen in zip(
            named, tokens.split(tokens.und), tokens.split(tokens.gen), strict=True
        ):
            key = (key, own_key)
            if key not in distinct:
                distinct[key] = torch.arange(count, count + len(of_und))
                count += len(of_und)
                held.append(what)
                positions.append(layout.positions[:, of_und])
            own.append(distinct[key])
            if len(of_gen) and len(own) < len(content):
                if key not in images:  # all tokens of an image see the same
                    attended = width - lengths[b] + layout.visible[of_gen[0], tokens.prefix].nonzero()[:, 0]
                    images[key] = CleanTokens(what, key, layout.positions[:, of_gen], attended)
                images[key].places.append((b, first))
                first += len(of_gen)
        und.append(torch.cat(own))
    noised = [layout.positions[:, tokens.gen[tokens.clean :]] for layout, tokens in zip(layouts, found, strict=True)]
    return Pack(held, torch.cat(positions, dim=1), layouts, und, list(images.values()), lengths, noised)


class _Tokens:
    """Where a layout's tokens stand: und ones, and gen ones, of which the first `clean` are not the target's."""

    def __init__(self, layout: TokenLayout) -> None:
        self.segment = layout.segment
        self.segments = int(layout.segment[-1]) + 1
        self.und, self.gen = layout.und.nonzero()[:, 0], (~layout.und).nonzero()[:, 0]
        self.clean = int((layout.segment[self.gen] < self.segments - 1).sum())
        self.prefix = torch.cat([self.und, self.gen[: self.clean]])

    def split(self, which: Tensor) -> Sequence[Tensor]:
        """Tokens in the order of the sequence, segment by segment."""
        return which.split(self.segment[which].bincount(minlength=self.segments).tolist())
