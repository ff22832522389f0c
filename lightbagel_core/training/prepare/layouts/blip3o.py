"""BLIP3o: tar files of `key.jpg` and `key.txt`, beside each other, as WebDataset writes them.

Nothing is unpacked: pictures are read from the tar where they lie. Links, devices and names that lead out of a folder
are left out. What else has the same key (`key.json`) is not read.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ...data.folder_set import ENDINGS
from ..rows import LeftOut, Picture, Row, Unit
from .records import files_of, root_of
from .unusable import DAMAGED, Unusable, damage, damaged, key_of, printable, shown, words
from .unusable import LONGEST as LONGEST_TEXT

PIECE = 512  # members of a unit, and those that share the last one's key
LARGEST = 1 << 28  # bytes of a picture
TRIED = 8  # members
NEEDS = "tar files, not compressed, of key.jpg and key.txt"


@dataclass(frozen=True)
class Blip3o:
    name: str = "blip3o"
    needs: str = NEEDS

    def fits(self, source: Path) -> bool:
        """Whether the first members of the first tar file are pictures and texts."""
        for file in files_of(source, (".tar",))[:1]:
            endings: set[str] = set()
            with suppress(ValueError, OSError), file.open("rb") as opened:  # what comes before the damage
                for member in islice(_members(opened), TRIED):
                    endings.add(_split(member.name)[1])
            return ".txt" in endings and not endings.isdisjoint(ENDINGS)
        return False

    def units(self, source: Path) -> list[Unit]:
        files = files_of(source, (".tar",))
        if not files:
            raise ValueError(f"{source} is not laid out as {self.name}: it needs {NEEDS}, and there are no such files")
        units = [unit for file in files for unit in _pieces(file)]
        if all(unit.inner[:1] == (DAMAGED,) for unit in units):
            raise ValueError(f"{source} is not laid out as {self.name}, which needs {NEEDS}. {units[0].inner[1]}")
        return units

    def rows(self, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
        root = root_of(source)
        left_out = damage(root, unit)
        if left_out is not None:
            yield left_out
            return
        try:
            yield from _rows(key_of(root, unit.where), unit)
        except ValueError as error:  # it has changed since
            yield LeftOut(key_of(root, unit.where), str(error))


def _rows(file: str, unit: Unit) -> Iterator[Row | LeftOut]:
    """file: what keys call it."""
    with unit.where.open("rb") as opened:
        opened.seek(int(unit.inner[0]))
        parts: dict[str, tarfile.TarInfo] = {}
        before = ""
        for member in islice(_members(opened), unit.last - unit.first):
            key, ending = _split(member.name)
            if parts and key != before:
                yield _row(f"{file}, {printable(before)}", parts, opened)
                parts = {}
            before = key
            try:
                _check(member)
            except Unusable as error:
                yield LeftOut(f"{file}, {printable(member.name)}", str(error))
                continue
            if ending in parts:
                yield LeftOut(f"{file}, {printable(member.name)}", "there are two of its name")
                continue
            parts[ending] = member
        if parts:
            yield _row(f"{file}, {printable(before)}", parts, opened)


def _members(opened: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """What a tar holds from here on, but folders; offsets are the file's. Raises ValueError where it is damaged."""
    try:
        with tarfile.open(fileobj=opened, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
                if not member.isdir():
                    yield member
            opened.seek(tar.offset)
            if opened.read(tarfile.BLOCKSIZE).strip(b"\0"):  # an archive ends with zeros
                raise ValueError(f"it is damaged from byte {tar.offset} on")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"it is damaged, compressed, or no tar file ({error})") from None


def _pieces(file: Path) -> list[Unit]:
    """inner: where the first member begins. A key's members are in one piece."""
    units: list[Unit] = []
    first = count = begin = 0
    before = None
    try:
        with file.open("rb") as opened:
            for count, member in enumerate(_members(opened), 1):
                key = _split(member.name)[0]
                if count - 1 - first >= PIECE and key != before:
                    units.append(Unit(file, first, count - 1, (str(begin),)))
                    first, begin = count - 1, member.offset
                before = key
    except (ValueError, OSError) as error:
        end = [damaged(file, f"{error}; {count} members before that are read")]
    else:
        end = [] if count else [damaged(file, "it is empty")]
    return [*units, *([Unit(file, first, count, (str(begin),))] if count > first else []), *end]


def _split(name: str) -> tuple[str, str]:
    """(key, ending) of a member, at the first dot of its name, as WebDataset has it."""
    path = PurePosixPath(name)
    stem, dot, ending = path.name.partition(".")
    return (path.parent / stem).as_posix(), (dot + ending).lower()


def _check(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise Unusable(f"the name {shown(member.name)} leads out of its folder")
    if not member.isreg() or member.issparse():
        raise Unusable("it is no file but a link or a device; these are not followed")


def _row(key: str, parts: dict[str, tarfile.TarInfo], opened: BinaryIO) -> Row | LeftOut:
    pictures = [member for ending, member in parts.items() if ending in ENDINGS]
    try:
        if len(pictures) != 1:
            raise Unusable(f"it has {len(pictures)} pictures, and must have one ({', '.join(ENDINGS)})")
        if ".txt" not in parts:
            raise Unusable("it has no .txt")
        text = words(_content(opened, parts[".txt"], LONGEST_TEXT), "its .txt")
        picture = Picture(key, content=_content(opened, pictures[0], LARGEST))
    except Unusable as error:
        return LeftOut(key, str(error))
    return Row(key, (), (text,), (picture,))


def _content(opened: BinaryIO, member: tarfile.TarInfo, most: int) -> bytes:
    """Raises Unusable where it is empty, too large or breaks off."""
    if not 0 < member.size <= most:
        raise Unusable(f"{shown(member.name)} has {member.size} bytes, and may have 1 to {most}")
    opened.seek(member.offset_data)
    content = opened.read(member.size)
    if len(content) < member.size:
        raise Unusable(f"{shown(member.name)} breaks off after {len(content)} of {member.size} bytes")
    return content


LAYOUT = Blip3o()
