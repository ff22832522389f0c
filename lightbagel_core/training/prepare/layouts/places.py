"""Pictures that metadata name: by a path below the source, or as bytes. Nothing else is opened, and nothing fetched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ..rows import Picture
from .unusable import Unusable, described, key_of, shown

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|(data|blob):", re.IGNORECASE)
DISK = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class Places:
    """Where paths of a file of metadata lead.

    root: the source; no path leads out of it.
    folders: what paths are relative to, the likeliest first.
    """

    root: Path
    folders: tuple[Path, ...]

    def file(self, path: str) -> Path:
        """The file that a path names.

        A path that finds nothing is tried without its first folder too: `Nano-150k/a.png` in what was downloaded to
        another folder than the authors'.

        Raises:
            Unusable: it is an address, leads out of the source, or there is no such file.
        """
        if ADDRESS.match(path):
            raise Unusable(f"{shown(path)} is an address; nothing is fetched: download it and name the file")
        below = [file for file in self._candidates(path) if _is_below(file, self.root)]
        files = [file for file in below if _is_file(file)]
        for file in files:
            if _really(file).is_relative_to(_real(self.root)):
                return file
        if files or not below:
            raise Unusable(f"{shown(path)} leads out of {self.root}; only files below the source are read")
        raise Unusable(f"there is no file {shown(path)} below {self.root}")

    def _candidates(self, path: str) -> Iterator[Path]:
        parts = PurePosixPath(path.replace("\\", "/"))
        if parts.is_absolute() or DISK.match(path):
            yield from [Path(path)] if Path(path).is_absolute() else []
            return
        yield from (folder / parts for folder in self.folders)
        if len(parts.parts) > 1 and ".." not in parts.parts:
            yield from (folder.joinpath(*parts.parts[1:]) for folder in self.folders)

    def picture(self, value: Any, name: str) -> Picture:
        """A picture as data sets hold it: bytes, a path, or both as {"bytes": …, "path": …}.

        Args:
            name: what messages call it.

        Raises:
            Unusable: there is none, or its path cannot be followed.
        """
        if isinstance(value, dict):
            if not value.keys() & {"bytes", "path"}:
                raise Unusable(f"{name} holds neither bytes nor a path but {', '.join(map(shown, value)) or 'nothing'}")
            value = value.get("bytes") or value.get("path")
        if value is None or value in ("", b""):
            raise Unusable(f"{name} holds no picture")
        if isinstance(value, bytes):
            return Picture(name, content=value)
        if not isinstance(value, str):
            raise Unusable(f"{name} is no picture but {described(value)}")
        file = self.file(value)
        return Picture(key_of(self.root, file), file=file)


def _is_below(file: Path, root: Path) -> bool:
    """Whether a path is one below a folder, by its words alone: other people's are not even looked at."""
    plain = os.path.abspath(file)
    return plain.startswith((os.path.join(os.path.abspath(root), ""), os.path.join(_real(root), "")))


def _really(file: Path) -> Path:
    """Where a file lies, links followed."""
    return file.resolve() if file.is_symlink() else _real(file.parent) / file.name


@lru_cache(maxsize=1024)  # rows share their folders
def _real(folder: Path) -> Path:
    return folder.resolve()


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that is too long
        return False
