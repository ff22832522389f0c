"""What cannot be made a row of, raised where it is met, and where it is caught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..rows import LeftOut, Unit

LONGEST = 1 << 16  # bytes of a text; no instruction has so many, but a log beside a picture may
DAMAGED = "damaged"


class Unusable(ValueError):
    """A row that is left out; the message is the reason, without a stop."""


def words(value: Any, name: str) -> str:
    """A text of people's, without the white space around it.

    Args:
        value: a str, or the bytes of one.
        name: what messages call it.

    Raises:
        Unusable: it is none, empty, too long or not UTF-8.
    """
    if value is None:
        raise Unusable(f"{name} is missing")
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise Unusable(f"{name} is not UTF-8; save it as UTF-8") from None
    if not isinstance(value, str):
        raise Unusable(f"{name} is no text but {described(value)}")
    text = value.strip()
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # half of a pair of surrogates, as JSON may escape it
        raise Unusable(f"{name} is not UTF-8; save it as UTF-8") from None
    if not text:
        raise Unusable(f"{name} is empty")
    if size > LONGEST:
        raise Unusable(f"{name} has {size} bytes, and may have {LONGEST}")
    return text


def text_file(file: Path) -> str:
    """The text in a file. Raises Unusable like `words`, and where there is no such file."""
    try:
        with file.open("rb") as opened:
            content = opened.read(LONGEST * 2)
    except FileNotFoundError:
        raise Unusable(f"there is no {file.name}") from None
    except OSError as error:
        raise Unusable(f"{file.name} cannot be read ({error.strerror})") from None
    return words(content, file.name)


def described(value: Any) -> str:
    """What kind of value it is, as JSON calls it, for messages."""
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    names |= {str: "a text", bytes: "bytes", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def shown(text: str) -> str:
    """A text for a message: in quotes, on one line, and shortened."""
    return repr(text if len(text) <= 80 else text[:77] + "…")


def damaged(where: Path, why: str) -> Unit:
    """A unit that gives one `LeftOut`: what a whole file, or the rest of one, is left out for."""
    return Unit(where, inner=(DAMAGED, why))


def damage(root: Path, unit: Unit) -> LeftOut | None:
    """What a unit of `damaged` gives; None for others."""
    return LeftOut(key_of(root, unit.where), unit.inner[1]) if unit.inner[:1] == (DAMAGED,) else None


def key_of(root: Path, file: Path) -> str:
    """A file as a person looks for it: below the source, or in full where it lies elsewhere."""
    name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()
    return printable(name)


def printable(text: str) -> str:
    """A text without what UTF-8 cannot hold: names of files and JSON may have it."""
    return text.encode("utf-8", "backslashreplace").decode()
