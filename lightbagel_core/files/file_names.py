"""File names that mean the same on every system."""

from __future__ import annotations

import os
import re
from pathlib import PurePath

WINDOWS = os.name == "nt"
_SPECIAL = re.compile(r'[<>:"/\\|?*]|[. ]$')  # paths, drives, streams, patterns; Windows drops a last dot or space
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)  # in every folder there


def is_plain(name: str) -> bool:
    """Whether a name stands for a file in its own folder on every system, and for nothing else."""
    return bool(name) and name.isprintable() and not _SPECIAL.search(name) and not _DEVICE.fullmatch(name)


def check_new(path: PurePath) -> None:
    """Raises ValueError when Windows, where this is Windows, has no file of a name that is to be made."""
    if WINDOWS and not is_plain(path.name):
        raise ValueError(f"{path.name!r} cannot be the name of a file on Windows; choose another one")
