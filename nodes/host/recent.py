"""What was made of objects lately, so that it is not made again: what the last one-box runs encoded, where only the
seed has changed, and what ViT and VAE are to make of IMAGEs.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from .keeping import keeps

T = TypeVar("T")


class Recent:
    """The last few results, by the words they were asked for and the very objects they were made from.

    Objects are only pointed at: a picture or a VAE that nobody else holds is not kept alive from here, and what was
    made of it goes with it.
    """

    def __init__(self, runs: int = 2) -> None:
        self.made: deque[tuple[Hashable, tuple[Callable[[], Any], ...], Any]] = deque(maxlen=runs)

    def get(self, words: Hashable, objects: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What was made from the same words and objects, else what `make` makes now; see `keeping.keeps`."""
        if not keeps():
            self.made.clear()
            return make()
        for known, refs, result in self.made:
            if (
                known == words
                and len(refs) == len(objects)
                and all(r() is o for r, o in zip(refs, objects, strict=True))
            ):
                return result
        result = make()
        self.made.append((words, tuple(weakref.ref(each, self._forget) for each in objects), result))
        return result

    def _forget(self, _: Any) -> None:
        """Gives up what was made of objects that are gone: nobody can ask for it any more."""
        living = (each for each in self.made if all(ref() is not None for ref in each[1]))
        self.made = deque(living, self.made.maxlen)
