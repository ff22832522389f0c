"""Folders of pictures and texts, as training reads them too (`data/folder_set.py`), at any depth.

cat.jpg  cat.txt                                          text to image
hat.png  hat.txt  sources/hat.png                         an edit
10_mine/cat.jpg  10_mine/cat.txt                          one that counts ten times, as kohya's trainers have it

A number of more than three digits, as in `2024_holidays`, is no count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...data.folder_set import SOURCES
from ..rows import LeftOut, Row, Unit
from . import folder_pairs
from .folder_pairs import Folders, folders_below, has_pairs, has_pictures
from .unusable import damaged

REPEATS = re.compile(r"(\d{1,3})_.+")


@dataclass(frozen=True)
class Folder:
    name: str = "folder"
    needs: str = "pictures with a .txt of the same name, and the sources of edits in sources/"

    def fits(self, source: Path) -> bool:
        return source.is_dir() and any(has_pairs(folder) for folder in _walk(source))

    def units(self, source: Path) -> list[Unit]:
        if not self.fits(source):
            raise ValueError(f"{source} is not laid out as {self.name}: it needs {self.needs}")
        units: list[Unit] = []
        for folder in _walk(source):
            repeats = _repeats(source, folder)
            if repeats == 0 and has_pictures(folder):
                units.append(damaged(folder, "its pictures count 0 times, as its name says"))
                continue
            sources = (folder / SOURCES,) if (folder / SOURCES).is_dir() else ()
            units += Folders(folder, sources, alone=True, repeats=repeats).units()
        return units

    def rows(self, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
        return folder_pairs.rows(source, unit)


def _walk(folder: Path) -> Iterator[Path]:
    """A folder and those in it, without sources, which belong to the pictures above; links are not followed."""
    yield folder
    for below in folders_below(folder):
        if below.name != SOURCES and not below.is_symlink():
            yield from _walk(below)


def _repeats(source: Path, folder: Path) -> int:
    """How often the pictures of a folder count: what its name says, or that of the nearest one above, or once."""
    for one in (folder, *folder.parents):
        named = REPEATS.fullmatch(one.name)
        if named:
            return int(named[1])
        if one == source:
            break
    return 1


LAYOUT = Folder()
