"""Files appear whole under their names, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from .file_names import check_new


def write_whole(file: Path, content: bytes, scratch: Path) -> None:
    """Writes a file by way of a folder on the same disk, so that nobody who lists its own folder sees a part of it.

    Raises:
        ValueError: it could not be written, for instance because the disk is full.
    """
    partial = scratch / f".{uuid4().hex}.partial"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as target:
                target.write(content)
                target.flush()
                os.fsync(target.fileno())
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"could not write {file}: {error.strerror or error}") from None


def write_beside(file: Path, content: bytes) -> None:
    """Writes a file that a user named, whole, by way of a temporary one beside it.

    Raises:
        ValueError: there is no such folder, or the file could not be written.
    """
    check_new(file)
    if not file.parent.is_dir():
        raise ValueError(f"could not write {file}: there is no folder {file.parent}; make it first")
    write_whole(file, content, file.parent)
