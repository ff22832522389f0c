"""Disks that are full or may only be read, laid over a folder as a file system in memory: Linux, and the right to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*arguments: str) -> None:
    """Mounts, or skips the test where this is not allowed: a container without the right, another system."""
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here, so there is no such disk to try: {error}")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of some bytes in the place of a folder, until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder and all in it may only be read, by root too, until the end of the block."""
    mount("--bind", str(folder), str(folder))
    try:
        mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Takes what room a disk has left; the file that does it."""
    stuffing = folder / "stuffing"
    with open(stuffing, "wb", buffering=0) as file:
        try:
            while file.write(os.urandom(4096)):
                pass
        except OSError:
            return stuffing
    raise AssertionError("unreachable")
