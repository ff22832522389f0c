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
    positions: int64 [3, U]. visible: bool [U, U], who sees whom among the und tokens.
    und: per sample, which of the U are its own, int64 [U_b], in sequence order.
    images: the distinct clean images, none before one that it attends to.
    lengths: per sample, the number of its constant tokens.
    noised_positions: per sample, int64 [3, N] of its target's tokens.
    """

    contents: list[Any]
    positions: Tensor
    visible: Tensor
    und: list[Tensor]
    images: list[CleanTokens]
    lengths: tuple[int, ...]
    noised_positions: list[Tensor]

    @property
    def width(self) -> int:
        """P, the length of the longest prefix."""
        return max(self.lengths)

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
    lengths = tuple(int((layout.und | (layout.segment != layout.segment[-1])).sum()) for layout in layouts)
    width = max(lengths)
    keys = contents if keys is None else keys
    for b, (layout, content) in enumerate(zip(layouts, contents, strict=True)):
        target = layout.segment == layout.segment[-1]
        clean = ~layout.und & ~target
        constant = torch.cat([layout.und.nonzero()[:, 0], clean.nonzero()[:, 0]])  # the prefix, in its order
        key: Hashable = None
        own = []
        end = int(layout.positions.max())  # the position of the target's end marker depends on the target's size
        for s, (what, own_key) in enumerate(zip(content, [*keys[b][:-1], (keys[b][-1], end)], strict=True)):
            key = (key, own_key)
            inside = layout.segment == s
            if key not in distinct:
                tokens = (inside & layout.und).nonzero()[:, 0]
                distinct[key] = count + torch.arange(len(tokens))
                count += len(tokens)
                held.append(what)
                positions.append(layout.positions[:, tokens])
            own.append(distinct[key])
            if (inside & clean).any():
                first = int((inside & clean).nonzero()[0, 0])  # all tokens of an image see the same
                columns = width - lengths[b] + torch.arange(lengths[b])
                if key not in images:
                    attended = columns[layout.visible[first, constant]]
                    images[key] = CleanTokens(what, key, layout.positions[:, inside & clean], attended)
                images[key].places.append((b, int(columns[constant == first])))
        und.append(torch.cat(own))
    visible = torch.zeros(count, count, dtype=torch.bool)
    for layout, mine in zip(layouts, und, strict=True):
        visible[mine[:, None], mine] = layout.visible[layout.und][:, layout.und]
    noised = [layout.positions[:, (layout.segment == layout.segment[-1]) & ~layout.und] for layout in layouts]
    return Pack(held, torch.cat(positions, dim=1), visible, und, list(images.values()), lengths, noised)
