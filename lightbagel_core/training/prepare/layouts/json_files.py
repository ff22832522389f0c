"""JSON files of records, read as a stream: a list of objects, or an object a line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ..rows import Unit
from .unusable import Unusable, damaged

PIECE = 256  # records of a unit
CHUNK = 1 << 16  # bytes
HEAD = 1 << 10  # bytes in which the first sign is looked for
LONGEST = 1 << 25  # bytes of a record
LOOKED_AT = 20  # records that say what names a file has
SPACES = {" ", "\t", "\r", "\n", "\ufeff"}


def _is_list(file: Path) -> bool:
    """Whether a file holds one list; else it holds an object a line. Raises ValueError where it is neither."""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD).removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    if head[:1] not in (b"[", b"{"):
        raise ValueError("it is neither a list of JSON objects nor a JSON object a line")
    return head[:1] == b"["


def names(file: Path) -> list[str]:
    """All names that the first records have. Raises ValueError where there is no record."""
    found: dict[str, None] = {}
    at = 0
    try:
        for at, (_, record) in enumerate(_stream(file), 1):
            listed = record if isinstance(record, list) else [record]  # a list of turns
            for one in listed:
                found |= dict.fromkeys(one) if isinstance(one, dict) else {}
            if at == LOOKED_AT:
                break
    except ValueError:
        if not at:
            raise
    return list(found)


def units(file: Path) -> list[Unit]:
    """Pieces; inner: where in the file the first record begins. What a list that breaks off still holds is kept.

    Raises:
        ValueError: there is no record.
    """
    starts: list[int] = []
    end: list[Unit] = []
    try:
        starts.extend(at for at, _ in (_stream(file) if _is_list(file) else _line_starts(file)))
    except ValueError as error:
        if not starts:
            raise
        end = [damaged(file, f"{error}; {len(starts)} records before it are read")]
    pieces = range(0, len(starts), PIECE)
    return [Unit(file, at, min(at + PIECE, len(starts)), (str(starts[at]),)) for at in pieces] + end


def read(unit: Unit) -> Iterator[tuple[int, Any]]:
    """(number, record) of a unit; in place of one that is no JSON, `Unusable`. Raises ValueError."""
    stream = islice(_stream(unit.where, int(unit.inner[0])), unit.last - unit.first)
    yield from ((number, record) for number, (_, record) in enumerate(stream, unit.first))


def _stream(file: Path, start: int = 0) -> Iterator[tuple[int, Any]]:
    return _of_list(file, start) if _is_list(file) else _of_lines(file, start)


def _lines(opened: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(where it begins, the line) of all that are not blank; of one that is too long, its first part."""
    at = opened.tell()
    while line := opened.readline(LONGEST):
        start, at = at, at + len(line)
        while not line.endswith(b"\n") and len(line) >= LONGEST and (more := opened.readline(LONGEST)):
            at += len(more)
            if more.endswith(b"\n") or len(more) < LONGEST:
                break
        if line.strip():
            yield start, line


def _line_starts(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as opened:
        yield from _lines(opened)


def _of_lines(file: Path, start: int) -> Iterator[tuple[int, Any]]:
    with file.open("rb") as opened:
        opened.seek(start)
        for at, line in _lines(opened):
            yield at, _parsed(line if at else line.removeprefix(codecs.BOM_UTF8))


def _parsed(line: bytes) -> Any:
    if len(line) >= LONGEST:
        return Unusable(f"the line has more than {LONGEST} bytes")
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Unusable("the line is not UTF-8; save it as UTF-8")
    except (ValueError, RecursionError) as error:
        return Unusable(f"the line is no JSON ({error})")


def _of_list(file: Path, start: int) -> Iterator[tuple[int, Any]]:
    """(where it begins, the record) of each of a list; start: 0, or where a record begins.

    Bytes that are not UTF-8 become surrogates, which no text may hold: the record is left out, and not the file.

    Raises:
        ValueError: it is no JSON, from where on.
    """
    with file.open("rb") as opened:
        window = _Window(opened, start)
        if not start:
            window.took("[")
        if window.took("]"):
            return
        while True:
            at = window.at
            record = window.record()
            yield at, record
            if window.took("]"):
                return
            if not window.took(","):
                what = "a comma is missing" if window.place < len(window.text) else "it breaks off"
                raise ValueError(f"it is no JSON at byte {window.at}: {what}")


class _Window:
    """A part of a file as text. at: where in the file its first character that was not read yet is, in bytes."""

    def __init__(self, opened: BinaryIO, at: int) -> None:
        opened.seek(at)
        self.opened = opened
        self.at = at
        self.text = ""
        self.place = 0  # in the text
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.parse = json.JSONDecoder().raw_decode

    def grow(self) -> bool:
        """Reads on, as much as is there already; whether there was anything. What was read is dropped."""
        self.text = self.text[self.place :]
        self.place = 0
        content = self.opened.read(max(CHUNK, len(self.text)))
        self.text += self.decoder.decode(content, final=not content)
        return bool(content)

    def move(self, place: int) -> None:
        self.at += len(self.text[self.place : place].encode("utf-8", "surrogateescape"))
        self.place = place

    def skip(self) -> None:
        """Moves behind space."""
        while True:
            place = self.place
            while self.text[place : place + 1] in SPACES:
                place += 1
            self.move(place)
            if self.place < len(self.text) or not self.grow():
                return

    def took(self, sign: str) -> bool:
        """Whether a sign comes next; moves behind it then, and behind the space around it anyway."""
        self.skip()
        found = self.text.startswith(sign, self.place)
        if found:
            self.move(self.place + len(sign))
            self.skip()
        return found

    def record(self) -> Any:
        """What comes next. The window grows until it holds all of it. Raises ValueError where it is no JSON."""
        while True:
            try:
                record, end = self.parse(self.text, self.place)
                if end < len(self.text) or not self.grow():  # a number may go on
                    self.move(end)
                    return record
            except (ValueError, RecursionError) as error:
                if len(self.text) - self.place > LONGEST or not self.grow():
                    raise ValueError(f"it is no JSON from byte {self.at} on ({error})") from None
