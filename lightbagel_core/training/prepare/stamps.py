"""What tells whether the files of a source are still those that a pass began with: names, sizes and times."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def stamp(sources: Iterable[Path]) -> str:
    """A checksum of the names, sizes and times of all files of sources; where they lie is no part of it.

    Hidden files are left out: training keeps its own there. Of a source that is one file, that alone counts, and not
    the pictures that it names.

    Raises:
        ValueError: a folder cannot be listed.
    """
    told = hashlib.sha256()
    for source in sources:
        try:
            for name, about in _files(source):
                told.update(f"{name} {about.st_size} {about.st_mtime_ns}\n".encode(errors="surrogateescape"))
        except OSError as error:
            raise ValueError(f"{source} cannot be read: {error.strerror}") from None
    return told.hexdigest()


def _files(source: Path) -> Iterator[tuple[str, os.stat_result]]:
    if not source.is_dir():
        yield source.name, source.stat()
        return
    folders = [("", source)]
    while folders:
        at, folder = folders.pop()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append((f"{at}{entry.name}/", Path(entry.path)))
            elif entry.is_file():
                yield at + entry.name, entry.stat()
