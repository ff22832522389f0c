"""Prompt files: JSON that may be damaged, rows that may be unusable, ids that may stand twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .items import Item, Reading
from .json_lines import text_of


def read_json(file: Path) -> tuple[Any, list[str]]:
    """(what a JSON file holds, a sentence for each key that stands twice in one object; its first value is used).

    Raises:
        ValueError: there is no such file, or it is a folder, empty, or no JSON in UTF-8.
    """
    repeated: list[str] = []

    def firsts(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                repeated.append(f"{file.name}: the key {key!r} stands twice in one object; its first value is used")
            found.setdefault(key, value)
        return found

    content = text_of(file)
    try:
        return json.loads(content, object_pairs_hook=firsts), repeated
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no readable JSON: {error}") from None


def text(row: object, key: str, where: str) -> str:
    """The text at `key` of a row.

    Args:
        where: says where the row stands, for the error.

    Raises:
        ValueError: the row is no object, or has no text there.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} is no object with the bench's keys")
    if key not in row:
        raise ValueError(f"{where} has no {key!r}")
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key!r} is no text but {str(value)[:40]!r}")
    if any(0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise ValueError(f"{where}: {key!r} holds half a character; save the file again as UTF-8")
    return value


def collect(
    title: str,
    file: Path,
    rows: Iterable[tuple[str, Any]],
    make: Callable[[Any, str], Item],
    unusable: Iterable[str] = (),
    none: str = "it holds none at all",
) -> Reading:
    """The items of a prompt file's rows; rows that cannot be used are left out with a sentence.

    Of two items of one id the first is used, also when the ids differ in small and capital letters alone: their
    pictures would be one file on many systems.

    Args:
        rows: each with words that say where it stands.
        make: the item of a row, of the row and those words; its ValueError says why there is none.
        unusable: sentences that are known already.
        none: what to say where there are no rows.

    Raises:
        ValueError: no row is usable, so the file is none of this bench's.
    """
    items: dict[str, Item] = {}
    left_out = list(unusable)
    for where, row in rows:
        try:
            item = make(row, where)
        except ValueError as error:
            left_out.append(str(error))
            continue
        if item.id.casefold() in items:
            left_out.append(f"{where}: the id {item.id!r} stands there already; the first is used")
        items.setdefault(item.id.casefold(), item)
    if not items:
        reason = left_out[0] if left_out else none
        if left_out and (reason.startswith(f"{file} ") or reason == f"there is no file {file}"):
            raise ValueError(reason)
        for name in (f"{file}/", f"{file}\\", str(file), f"{file.name}/", file.name):
            if reason.startswith((f"{name},", f"{name}:")) or name.endswith(("/", "\\")):
                reason = reason.removeprefix(name)
        raise ValueError(f"{file} has no row that {title} can use: {reason.lstrip(',: ')}")
    return Reading(tuple(items.values()), tuple(left_out))


def one_sample(title: str, samples: int) -> None:
    """Raises ValueError when more than one picture a prompt is asked of a bench whose layout has room for one."""
    if samples != 1:
        raise ValueError(f"{title} scores one picture for each prompt, not {samples}; leave the number of samples out")
