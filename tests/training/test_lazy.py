"""A lazy sequence makes what is reached, and nothing before."""

from __future__ import annotations

import pytest

from lightbagel_core.training.lazy import Lazy


def test_items_are_made_when_they_are_reached():
    made: list = []
    squares = Lazy(3, lambda n: made.append(n) or n**2, lambda: made.append("end")).mapped(lambda n: -n)
    assert len(squares) == 3
    assert made == []
    items = iter(squares)
    assert next(items) == 0
    assert made == [0]
    assert list(items) == [-1, -4]
    assert made == [0, 1, 2, "end"]
    assert squares[1] == -1
    assert list(squares) == [0, -1, -4], "again"
    with pytest.raises(IndexError):
        squares[3]


def test_an_error_in_making_is_no_end():
    def make(number: int) -> int:
        raise IndexError("of what is read")

    with pytest.raises(IndexError, match="of what is read"):
        list(Lazy(2, make))
