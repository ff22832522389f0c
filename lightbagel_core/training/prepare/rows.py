"""What a layout gives: rows as they lie, not checked yet, and what it could not make a row of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Picture:
    """A picture as it lies: in a file, or as the bytes of one.

    name: for messages: a path, or a row and a column.
    """

    name: str
    file: Path | None = None
    content: bytes | None = None

    def read(self) -> bytes:
        """The file's bytes. Raises OSError where it cannot be read."""
        if self.content is not None:
            return self.content
        assert self.file is not None
        return self.file.read_bytes()


@dataclass(frozen=True)
class Row:
    """Source pictures, none for text to image, and of each turn a text and the picture that it asks for; see
    `data.example.Example`.

    key: where it comes from, as a person would look for it: a file below the source, or a file and a row's number.
    kind: what the data set calls this kind of edit; "" where it says nothing.
    repeats: how often it counts beside the others, where the layout says so (`10_name/`): it is given and stored once.
    """

    key: str
    sources: tuple[Picture, ...]
    texts: tuple[str, ...]
    targets: tuple[Picture, ...]
    kind: str = ""
    repeats: int = 1


@dataclass(frozen=True)
class LeftOut:
    """What no row could be made of, and why, in a sentence without a stop."""

    key: str
    why: str


@dataclass(frozen=True)
class Unit:
    """A piece of a source that is read on its own, by any process: some rows, in an order that never changes.

    where: a file, or a folder. first, last: which of its rows, or files in sorted order: first <= number < last.
    inner: what else the layout needs, as text.
    """

    where: Path
    first: int = 0
    last: int = 0
    inner: tuple[str, ...] = field(default=())


class Layout(Protocol):
    """One way of laying out a data set. It has no state: an instance may go to another process."""

    @property
    def name(self) -> str:
        """As it is asked for: "folder", "omniedit"."""

    def fits(self, source: Path) -> bool:
        """Whether a folder or file looks like this layout; from names and heads of files alone."""

    def units(self, source: Path) -> list[Unit]:
        """All of a source in pieces of at most some hundred rows, always the same ones in the same order.

        Raises:
            ValueError: the source is no such layout, or is damaged as a whole; the message says what is missing.
        """

    def rows(self, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
        """The rows of one piece. A row that is damaged is left out with its reason, and the next ones follow."""
