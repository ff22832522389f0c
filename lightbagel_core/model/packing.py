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
from weakref import WeakKeyDictionary

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
    keys: of each, those of all segments up to it; where keys are equal, so are tokens. sizes: how many und tokens.
    positions: int64 [3, U]. layouts: of the samples.
    und: per sample, which of the U are its own, int64 [U_b], in sequence order.
    images: the distinct clean images, none before one that it attends to.
    lengths: per sample, the number of its constant tokens.
    noised_positions: per sample, int64 [3, N] of its target's tokens.
    """

    contents: list[Any]
    keys: list[Hashable]
    sizes: list[int]
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
    sizes: list[int] = []
    positions: list[Tensor] = []
    und: list[Tensor] = []
    count = 0
    found = [_parts(layout) for layout in layouts]
    lengths = tuple(parts.prefix for parts in found)
    width = max(lengths)
    keys = contents if keys is None else keys
    for b, (parts, content) in enumerate(zip(found, contents, strict=True)):
        key: Hashable = None
        own = []
        before = width - lengths[b]
        first = before + parts.und  # the column of the first clean token
        # The position of the target's end marker depends on the target's size.
        named = zip(content, [*keys[b][:-1], (keys[b][-1], parts.end)], strict=True)
        for (what, own_key), at, image in zip(named, parts.und_positions, parts.clean, strict=True):
            key = (key, own_key)
            if key not in distinct:
                distinct[key] = torch.arange(count, count + at.shape[1])
                count += at.shape[1]
                sizes.append(at.shape[1])
                held.append(what)
                positions.append(at)
            own.append(distinct[key])
            if image is not None:
                if key not in images:
                    images[key] = CleanTokens(what, key, image.positions, before + image.attended)
                images[key].places.append((b, first))
                first += image.positions.shape[1]
        und.append(torch.cat(own))
    noised = [parts.noised for parts in found]
    at = torch.cat(positions, dim=1)
    return Pack(held, list(distinct), sizes, at, layouts, und, list(images.values()), lengths, noised)


@dataclass(frozen=True, eq=False)
class _Clean:
    """A layout's clean image of n tokens.

    positions: int64 [3, n]. attended: int64 [S], what all of them attend to, as columns of the prefix.
    """

    positions: Tensor
    attended: Tensor


@dataclass(frozen=True, eq=False)
class _Parts:
    """What packing asks of a layout.

    prefix: its constant tokens; und: the und ones among them, which come first.
    und_positions: per segment, int64 [3, n]. clean: per segment, None where it is no clean image.
    noised: int64 [3, N], positions of the target's tokens. end: the last position.
    """

    prefix: int
    und: int
    und_positions: tuple[Tensor, ...]
    clean: tuple[_Clean | None, ...]
    noised: Tensor
    end: int


_KEPT: WeakKeyDictionary[TokenLayout, _Parts] = WeakKeyDictionary()  # many samples may have one layout


def _parts(layout: TokenLayout) -> _Parts:
    if layout not in _KEPT:
        und, gen = (_split(which.nonzero()[:, 0], layout.segment) for which in (layout.und, ~layout.und))
        *clean, noised = gen
        prefix = torch.cat([*und, *clean])
        images = [
            _Clean(layout.positions[:, own], layout.visible[own[0], prefix].nonzero()[:, 0]) if len(own) else None
            for own in clean  # all tokens of an image see the same
        ]
        _KEPT[layout] = _Parts(
            prefix=len(prefix),
            und=int(layout.und.sum()),
            und_positions=tuple(layout.positions[:, own] for own in und),
            clean=(*images, None),
            noised=layout.positions[:, noised],
            end=int(layout.positions.max()),
        )
    return _KEPT[layout]


def _split(which: Tensor, segment: Tensor) -> Sequence[Tensor]:
    """Tokens in the order of the sequence, segment by segment."""
    return which.split(segment[which].bincount(minlength=int(segment[-1]) + 1).tolist())
