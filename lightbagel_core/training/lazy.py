"""A sequence whose items are made when they are reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Lazy(Sequence[T]):
    """
    Args:
        count: of its items. make: gives the one of a number; asked anew each time, since none is kept.
        end: is called when all have been gone through.
    """

    def __init__(self, count: int, make: Callable[[int], T], end: Callable[[], object] = lambda: None) -> None:
        self.length, self.make, self.end = count, make, end

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < self.length:
            raise IndexError(number)
        return self.make(number)

    def __iter__(self) -> Iterator[T]:
        for number in range(self.length):
            yield self.make(number)
        self.end()

    def mapped(self, change: Callable[[T], U]) -> Lazy[U]:
        """A sequence of what a function makes of each item."""
        return Lazy(self.length, lambda number: change(self.make(number)), self.end)
