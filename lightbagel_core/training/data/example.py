"""An example is what people have: pictures and texts. A set of examples answers by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from PIL import Image


@dataclass(frozen=True, eq=False)
class Turn:
    """A text and the picture that it asks for. thought: what was thought before it was drawn, a segment of its own."""

    text: str
    target: Image.Image
    thought: str = ""


@dataclass(frozen=True, eq=False)
class Example:
    """Source pictures, none for text to image, and one turn; several are a chain, each made from the former's picture.

    Pictures are RGB, of any size.
    """

    sources: tuple[Image.Image, ...]
    turns: tuple[Turn, ...]

    @property
    def edit(self) -> bool:
        return bool(self.sources)


@dataclass(frozen=True)
class Shape:
    """What is known of an example before it is read: (width, height) of its pictures in pixels, and the words of each
    turn, roughly.
    """

    sources: tuple[tuple[int, int], ...]
    targets: tuple[tuple[int, int], ...]
    words: tuple[int, ...]


def words(text: str) -> int:
    """About how many tokens a text has: a tokenizer's token is some four bytes of UTF-8, in any language."""
    return -(-len(text.encode()) // 4)


class Examples(Protocol):
    """A set of examples. An example depends on its number alone, whatever was asked for before."""

    @property
    def identity(self) -> str:
        """What it holds, in a line: where that changes, so does this."""

    @property
    def count(self) -> int | None:
        """How many there are; None: without end."""

    def shape(self, index: int) -> Shape:
        """What is needed to plan a batch, without reading pictures."""

    def __getitem__(self, index: int) -> Example:
        """Raises ValueError, naming the file, where it cannot be read."""


@runtime_checkable
class Documented(Protocol):
    """A set that knows where its examples come from."""

    def about(self) -> list[dict[str, Any]]:
        """Of each part that has an origin of its own: "name", "source", "licence", "count"; what is not known is left
        out.
        """
