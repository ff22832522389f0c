"""What a bench asks for: items, in the order of its prompt file, and what of that file could not be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from ..files.file_names import is_plain
from ..images import open_image

LONGEST = 200  # bytes of a name; file systems take 255, and endings and turns come behind it


@dataclass(frozen=True)
class Source:
    """A picture to be edited. name: for messages. open: gives it in RGB, or raises a ValueError that says what is wrong
    with it; nothing is read before. file: where it lies, if in a file of its own.
    """

    name: str
    open: Callable[[], Image.Image]
    file: Path | None = None

    @classmethod
    def of_file(cls, file: Path) -> Source:
        return cls(file.name, partial(open_image, file), file)


@dataclass(frozen=True)
class Item:
    """One prompt, or one chain of edits, of a bench.

    id: names it in the bench; a picture's seed is made from it.
    group: the task, type or category that its score counts for.
    turns: what is asked, one prompt or instruction after the other; each turn edits what the turn before it drew.
    sources: the pictures that the first turn edits; none for text to image.
    files: where the pictures go below the output folder: for each turn one file for each sample.
    grid: the samples of a turn are one picture, two in a row; then each turn has one file.
    beside: other files of the layout that lie beside the pictures, each with what makes its content when it is needed;
        a ValueError from there, or from a source, says why the item cannot be drawn.
    """

    id: str
    group: str
    turns: tuple[str, ...]
    files: tuple[tuple[PurePosixPath, ...], ...]
    sources: tuple[Source, ...] = ()
    grid: bool = False
    beside: Mapping[PurePosixPath, Callable[[], bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """A bench's prompt file, read. `unusable` says, a sentence for each, which rows are left out and why."""

    items: tuple[Item, ...]
    unusable: tuple[str, ...] = ()


def safe_name(text: object, what: str) -> str:
    """An id as it becomes (part of) a file's name.

    Args:
        what: says where the id stands, for the error: "row 3 of prompts.json".

    Raises:
        ValueError: it is no text or whole number, or would not be a plain file name on every system: `..`, a path, a
            drive letter, a reserved name.
    """
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise ValueError(f"{what}: the id {text!r} is neither text nor a whole number")
    name = str(text)
    if len(name.encode("utf-8", "replace")) > LONGEST:
        raise ValueError(f"{what}: the id {name[:40]!r}… is too long for the name of a file; shorten it")
    if not is_plain(name) or name in (".", ".."):
        raise ValueError(f"{what}: the id {name!r} cannot become the name of a file; rename it in the prompt file")
    return name


def inside(root: Path, relative: object, what: str) -> Path:
    """A file named in a prompt file, which may lie nowhere but below `root`.

    Raises:
        ValueError: it is no relative path of plain names.
    """
    if not isinstance(relative, str) or not relative:
        raise ValueError(f"{what}: {relative!r} is no name of a file")
    parts = PurePosixPath(relative.replace("\\", "/")).parts
    if any(len(part.encode("utf-8", "replace")) > LONGEST for part in parts):
        raise ValueError(f"{what}: {relative[:40]!r}… is too long for the name of a file")
    if not parts or not all(is_plain(part) and part not in (".", "..") for part in parts):
        raise ValueError(f"{what}: {relative!r} does not stay below {root}")
    return root.joinpath(*parts)
