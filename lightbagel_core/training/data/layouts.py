"""Token layouts of samples; those of short samples are kept, since a small model's step would wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ...model.sequence import Segment, TokenLayout, lay_out

SHORT = 512  # tokens; a layout of N of them holds N * N bytes


def laid_out(segments: Sequence[Segment]) -> TokenLayout:
    """The layout of a sample's segments, which nobody may change."""
    short = sum(segment.length for segment in segments) <= SHORT
    return _kept(tuple(segments)) if short else lay_out(segments)


@lru_cache(maxsize=256)
def _kept(segments: tuple[Segment, ...]) -> TokenLayout:
    return lay_out(segments)
