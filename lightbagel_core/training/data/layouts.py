"""Token layouts of samples; those of short samples are kept, since a small model's step would wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ...model.sequence import ImageSegment, Segment, TextSegment, TokenLayout, lay_out

SHORT = 512  # tokens; a layout of N of them holds N * N bytes


def laid_out(segments: Sequence[Segment]) -> TokenLayout:
    """The layout of a sample's segments, which nobody may change."""
    short = sum(segment.length for segment in segments) <= SHORT
    return _kept(tuple(segments)) if short else lay_out(segments)


@lru_cache(maxsize=256)
def _kept(segments: tuple[Segment, ...]) -> TokenLayout:
    return lay_out(segments)


def segments_of(layout: TokenLayout) -> list[Segment]:
    """The segments that a layout was made from, the noised target last."""
    found: list[Segment] = []
    last = int(layout.segment[-1])
    for number in range(last + 1):
        own = (layout.segment == number).nonzero()[:, 0]
        if not layout.visible[own[0], own[-1]]:  # inside an image all see each other
            found.append(TextSegment(len(own)))
            continue
        grid = layout.positions[1:, own[1:-1]]
        rows, cols = (grid.amax(1) - grid.amin(1) + 1).tolist()
        vit = bool(layout.und[own].all())
        found.append(ImageSegment("noised" if number == last else "vit" if vit else "clean", rows, cols))
    return found
