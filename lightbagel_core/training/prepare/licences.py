"""The licence that a data set says it has: the `license:` line in the head of the README.md beside it."""

from __future__ import annotations

import re
from pathlib import Path

README = "README.md"
LINE = re.compile(r"license:[ \t]*(?:\[[ \t]*)?['\"]?([^'\"\],#\r\n]+)", re.IGNORECASE)
NAMED = re.compile(r"license_name:[ \t]*['\"]?([^'\"#\r\n]+)", re.IGNORECASE)
LISTED = re.compile(r"license:[ \t]*\r?\n[ \t]*-[ \t]*['\"]?([^'\"#\r\n]+)", re.IGNORECASE)
HEAD = 20_000  # characters that are looked at


def licence_of(source: Path) -> str:
    """What the README of a folder, or of the one that a file lies in, or of the one above, says; "" where none does."""
    folder = source if source.is_dir() else source.parent
    for place in (folder, folder.parent):
        if (found := _said(place / README)) or source.is_dir():
            return found
    return ""


def _said(readme: Path) -> str:
    try:
        with open(readme, encoding="utf-8", errors="replace") as file:
            text = file.read(HEAD)
    except OSError:
        return ""
    head = re.match(r"\ufeff?---[ \t]*\r?\n(.*?)^---", text, re.DOTALL | re.MULTILINE)
    if head is None:
        return ""
    lines = re.findall(r"^(license(?:_name)?:.*(?:\r?\n[ \t]*-.*)*)", head[1], re.MULTILINE | re.IGNORECASE)
    said = {line.split(":")[0].lower(): line for line in lines}
    if found := LINE.match(said.get("license", "")) or LISTED.match(said.get("license", "")):
        licence = found[1].strip()
        named = NAMED.match(said.get("license_name", ""))
        return named[1].strip() if named and licence.lower() == "other" else licence
    return ""
