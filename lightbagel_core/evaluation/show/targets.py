"""The files that tables, figures and sheets are written to: looked at before anything is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ...files.file_names import check_new

MADE_BY = "lightbagel bench table"  # in the PNGs of figures and sheets, as their software
TEXT, PICTURE = (".md", ".txt"), (".png",)


def check_targets(targets: Sequence[tuple[Path, tuple[str, ...]]], runs: Sequence[Path]) -> None:
    """Looks at files that are to be written; what was written to the same place before may be there.

    Args:
        targets: each file with the endings that its name may have.
        runs: folders whose own files, those that no table, figure or sheet is, must stay as they are.

    Raises:
        ValueError: a name has another ending, two are the same file, a folder is not there or may not be written to,
            or a file is a run's own.
    """
    seen: set[str] = set()
    for file, endings in targets:
        check_new(file)
        if file.suffix.lower() not in endings:
            raise ValueError(f"{file} does not end in {' or '.join(endings)}; name another file")
        if not file.parent.is_dir():
            raise ValueError(f"could not write {file}: there is no folder {file.parent}; make it first")
        if file.is_dir():
            raise ValueError(f"could not write {file}: it is a folder; name a file")
        if not os.access(file.parent, os.W_OK):
            raise ValueError(f"could not write {file}: the folder {file.parent} may not be written to")
        place = file.parent.resolve() / file.name
        if os.path.normcase(place) in seen:
            raise ValueError(f"{file} is named twice; name a file for each thing to be written")
        seen.add(os.path.normcase(place))
        if place.exists() and any(place.is_relative_to(run.resolve()) for run in runs) and not _ours(place):
            raise ValueError(f"{file} is a file of the run itself and stays as it is; name another file")


def _ours(file: Path) -> bool:
    """Whether a file is a table, a figure or a sheet."""
    try:
        if file.suffix.lower() in TEXT:
            with open(file, "rb") as text:
                return text.read(4) == b"### "
        with Image.open(file) as picture:
            return picture.info.get("Software") == MADE_BY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
