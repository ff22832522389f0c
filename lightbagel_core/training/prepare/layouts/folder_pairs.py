"""Folders of pictures with a text beside each, and the sources of edits by the same names in other folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...data.folder_set import ENDINGS
from ..rows import LeftOut, Picture, Row, Unit
from .unusable import Unusable, damage, damaged, key_of, text_file

PIECE = 256  # files of a unit
OTHERS = {".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl"}  # said to be left out
CONTROL = re.compile(r"controls?([_-]?(path|images?|dir|directory|folder))?([_-]?(?P<number>\d+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Folders:
    """Where pictures and their texts lie, and their sources.

    sources: folders with pictures of the targets' names, or with a number behind: `x.png`, `x_0.png`, `x_1.png`.
    alone: whether a picture without a source is one for text to image; else it is left out.
    """

    targets: Path
    sources: tuple[Path, ...] = ()
    alone: bool = False
    ending: str = ".txt"
    repeats: int = 1

    def units(self) -> list[Unit]:
        inner = (str(int(self.alone)), self.ending, str(self.repeats), *map(str, self.sources))
        count = len(_entries(self))
        return [Unit(self.targets, at, min(at + PIECE, count), inner) for at in range(0, count, PIECE)]


def rows(root: Path, unit: Unit) -> Iterator[Row | LeftOut]:
    """The rows of a unit of `Folders.units`."""
    left_out = damage(root, unit)
    if left_out is not None:
        yield left_out
        return
    alone, ending, repeats, *sources = unit.inner
    folders = Folders(unit.where, tuple(map(Path, sources)), alone == "1", ending, int(repeats))
    for file, about in _entries(folders)[unit.first : unit.last]:
        key = key_of(root, file)
        if isinstance(about, str):
            yield LeftOut(key, about)
            continue
        try:
            text = text_file(file.with_name(file.stem + ending))
        except Unusable as error:
            yield LeftOut(key, str(error))
            continue
        pictures = tuple(Picture(key_of(root, source), file=source) for source in about)
        yield Row(key, pictures, (text,), (Picture(key, file=file),), repeats=folders.repeats)


def _entries(folders: Folders) -> tuple[tuple[Path, tuple[Path, ...] | str], ...]:
    """What a folder holds, by name: (a target, its sources), or (another file, why it is left out)."""
    stamps = tuple(folder.stat().st_mtime_ns for folder in (folders.targets, *folders.sources))
    return _listed(folders, stamps)


@lru_cache(maxsize=4)  # a folder of many pieces is listed once
def _listed(folders: Folders, stamps: tuple[int, ...]) -> tuple[tuple[Path, tuple[Path, ...] | str], ...]:
    targets, problems = pictures_of(folders.targets)
    found: dict[str, list[tuple[int, int, Path]]] = {}
    for at, folder in enumerate(folders.sources):
        listed, more = pictures_of(folder)
        problems |= more
        for stem, path in listed.items():
            numbered = re.fullmatch(r"(.+)_(\d+)", stem)
            if stem in targets:
                found.setdefault(stem, []).append((at, -1, path))
            elif numbered and numbered[1] in targets:
                found.setdefault(numbered[1], []).append((at, int(numbered[2]), path))
            else:
                problems[path] = "it has no target of its name"
    entries: dict[Path, tuple[Path, ...] | str] = dict(problems)
    for stem, path in targets.items():
        entries[path] = tuple(source for _, _, source in sorted(found.get(stem, [])))
        if not entries[path] and not folders.alone:
            entries[path] = f"it has no source of its name in {', '.join(one.name for one in folders.sources)}"
    for name in _names(folders.targets):
        if name.endswith(folders.ending) and name.removesuffix(folders.ending) not in targets:
            entries[folders.targets / name] = f"there is no picture of its name ({', '.join(ENDINGS)})"
    return tuple(sorted(entries.items()))


def _names(folder: Path) -> list[str]:
    """The names of the files that are not hidden, sorted."""
    with os.scandir(folder) as listed:
        return sorted(entry.name for entry in listed if not entry.name.startswith(".") and not entry.is_dir())


def pictures_of(folder: Path) -> tuple[dict[str, Path], dict[Path, str]]:
    """(pictures of a folder by their names without ending, why others are left out)."""
    found: dict[str, Path] = {}
    problems: dict[Path, str] = {}
    for name in _names(folder):
        path = folder / name
        ending = path.suffix.lower()
        if ending in OTHERS:
            problems[path] = f"it is none of {', '.join(ENDINGS)}; save it as PNG"
        elif ending in ENDINGS and path.stem in found:
            problems[path] = f"{found[path.stem].name} has the same name"
        elif ending in ENDINGS:
            found[path.stem] = path
    return found, problems


def has_pictures(folder: Path) -> bool:
    try:
        return bool(pictures_of(folder)[0])
    except OSError:
        return False


def has_pairs(folder: Path, ending: str = ".txt") -> bool:
    """Whether a picture lies there with its text."""
    return any((folder / (stem + ending)).exists() for stem in pictures_of(folder)[0])


def folders_below(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden, sorted."""
    with os.scandir(folder) as listed:
        return sorted(Path(entry) for entry in listed if entry.is_dir() and not entry.name.startswith("."))


def beside_control(source: Path) -> tuple[Folders, list[Unit]]:
    """(targets and their control folders, what other folders with pictures are left out) of a folder.

    The targets lie in the folder itself or in one below it; control folders are called `control`, `control_path`,
    `control_directory`, or so with a number: `control_1`, `control_path_2`.

    Raises:
        ValueError: there is no control folder, or it is not clear where the targets lie.
    """
    below = folders_below(source) if source.is_dir() else []
    named = [(CONTROL.fullmatch(folder.name), folder) for folder in below]
    controls = [folder for _, folder in sorted((int(n["number"] or 0), f) for n, f in named if n)]
    if not controls:
        raise ValueError(f"{source} has no folder control/, control_1/, … with the sources")
    others = [folder for folder in below if folder not in controls and has_pictures(folder)]
    if has_pictures(source):
        why = "it is no control folder, and the targets lie above it"
        return Folders(source, tuple(controls)), [damaged(folder, why) for folder in others]
    if len(others) != 1:
        among = f", but {', '.join(folder.name for folder in others)}" if others else ""
        raise ValueError(f"{source} needs one folder with the targets and their texts beside control{among}")
    return Folders(others[0], tuple(controls)), []
