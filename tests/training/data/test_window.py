"""What the rolling cache holds depends on the step alone."""

from __future__ import annotations

from lightbagel_core.training.data.window import chunk_numbers, window
from lightbagel_core.training.stages import Cache


def test_the_oldest_chunk_makes_room_every_so_many_steps():
    cache = Cache("rolling", samples=8, chunks=3, renew=10)
    assert [list(chunk_numbers(cache, step)) for step in (0, 9, 10, 25)] == [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert window(cache, 10) == range(8, 32)
