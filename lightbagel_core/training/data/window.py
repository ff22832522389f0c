"""Which slots of the mix the rolling cache holds at a step."""

from __future__ import annotations

from ..stages import Cache


def chunk_numbers(cache: Cache, step: int) -> range:
    """The chunks that a step may take from: the first `chunks`, and a newer one in place of the oldest every `renew`
    steps. So they depend on the step alone, and a resumed run has the same.
    """
    newest = cache.chunks - 1 + step // cache.renew
    return range(newest - cache.chunks + 1, newest + 1)


def window(cache: Cache, step: int) -> range:
    """The slots of these chunks."""
    chunks = chunk_numbers(cache, step)
    return range(chunks.start * cache.samples, chunks.stop * cache.samples)
