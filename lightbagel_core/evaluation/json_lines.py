"""Files of JSON lines that may be damaged: each line by itself, so that one of them spoils no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def text_of(file: Path) -> str:
    """The text of a file.

    Raises:
        ValueError: there is no such file, or it is a folder, empty, or no text in UTF-8.
    """
    if file.is_dir():
        raise ValueError(f"{file} is a folder; name the file")
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"there is no file {file}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as text: {error}") from None
    if not text.strip():
        raise ValueError(f"{file} is empty")
    return text


def lines_of(file: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    """(where it stands, (its number from 0, the text)) of each line; empty ones at the end of the file are left out.

    Raises:
        ValueError: there is no such file, or it is empty, or no text in UTF-8.
    """
    lines = text_of(file).rstrip().split("\n")
    yield from ((f"{file.name}, line {number + 1}", (number, line)) for number, line in enumerate(lines))


def parsed(line: str, where: str) -> Any:
    """What a line holds.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error}") from None
