"""UniWorld and GPT-Image-Edit: records of `conversations`, in which `<image>` stands where a picture of the list comes,
and the answer is the picture that was asked for.

conversations: [{"from": "human", "value": "<image>\\nadd a hat"}, {"from": "gpt", "value": "<gen_image>"}]
image:         ["input/1.png", "output/1.png"]

In Parquet the pictures are `input_images` and `output_image`, and the conversations may be JSON in a text. A source may
be their `data.txt` too, a person's own, with `folder of the pictures,file of the records,false` a line. An answer in
words is left out: it is no picture to learn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..rows import LeftOut, Row, Unit
from .places import Places
from .records import JSON, PARQUET, Record, Records, root_of, rows_of, units_of
from .unusable import DAMAGED, Unusable, damaged, described, shown, words

MARK = "<image>"
ANSWERS = {MARK, "<gen_image>"}
LISTS = ("image", "images", "input_images")
RESULTS = ("output_image", "output_images")


def _row(record: Record) -> Row:
    kind = record.kind("task", "edit_type")
    pictures = [picture for name in (*LISTS, *RESULTS) for picture in record.pictures(name)]
    asked = list(_turns(record.value("conversations")))
    brought = asked[0][1]
    if len(pictures) != brought + len(asked):
        raise Unusable(f"it has {len(pictures)} pictures, and its conversation speaks of {brought + len(asked)}")
    texts = tuple(text for text, _ in asked)
    return Row(record.key, tuple(pictures[:brought]), texts, tuple(pictures[brought:]), kind)


def _turns(said: Any) -> Iterator[tuple[str, int]]:
    """(what is asked, with how many pictures) of each turn. Raises Unusable."""
    if isinstance(said, str):
        try:
            said = json.loads(said)
        except (ValueError, RecursionError) as error:
            raise Unusable(f"conversations is no JSON ({error})") from None
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise Unusable(f"conversations is no list of objects but {described(said)}")
    said = [one for one in said if one.get("from", one.get("role")) != "system"]
    if not said or len(said) % 2:
        raise Unusable(f"conversations has {len(said)} parts, and must have an answer to each question")
    for at, (question, answer) in enumerate(zip(said[::2], said[1::2], strict=True)):
        text = words(question.get("value", question.get("content")), "the question")
        if words(answer.get("value", answer.get("content")), "the answer") not in ANSWERS:
            raise Unusable("its answer is in words, and not a picture")
        if at and MARK in text:
            raise Unusable(f"turn {at + 1} brings a picture of its own")
        yield words(text.replace(MARK, " "), "the question"), text.count(MARK)


class UniWorld(Records):
    """Records, or a data.txt that names some."""

    def fits(self, source: Path) -> bool:
        if source.suffix.lower() != ".txt":
            return super().fits(source)
        try:
            return bool(_lines(source))
        except ValueError:
            return False

    def units(self, source: Path) -> list[Unit]:
        if source.suffix.lower() != ".txt":
            return super().units(source)
        units: list[Unit] = []
        for folder, file in _lines(source):
            try:
                if not folder.is_dir() or not file.is_file():
                    raise ValueError(f"there is no {folder if file.is_file() else file}, which {source.name} names")
                found = units_of([file], file, self.name, self.needs, self.columns)
            except ValueError as error:
                found = [damaged(file, str(error))]
            units += (replace(unit, inner=(*unit.inner, str(folder))) for unit in found)
        if all(unit.inner[0] == DAMAGED for unit in units):
            raise ValueError(f"nothing of {source} can be read: {units[0].inner[1]}")
        return units

    def rows(self, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
        if source.suffix.lower() != ".txt":
            yield from super().rows(source, unit)
            return
        *inner, folder = unit.inner
        places = Places(Path(folder), (Path(folder),))
        piece = replace(unit, inner=tuple(inner))
        yield from rows_of(root_of(source), piece, self.wanted, self.make, places)


def _lines(source: Path) -> list[tuple[Path, Path]]:
    """(folder of the pictures, file of the records) of each line; relative to the file they stand in.

    Raises:
        ValueError: a line has not three parts or names no file of records, or there is none, or it is no text.
    """
    try:
        lines = [line for line in source.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{source} cannot be read as text: {error}") from None
    found = []
    for line in lines:
        folder, file, *more = (*(part.strip() for part in line.split(",")), "")
        if len(more) != 2 or not file.lower().endswith((*JSON, *PARQUET)):
            raise ValueError(f"{source}: {shown(line)} is not `folder of the pictures,file of the records,false`")
        found.append((source.parent / folder, source.parent / file))
    if not found:
        raise ValueError(f"{source} is empty")
    return found


LAYOUT = UniWorld(
    "uniworld",
    "JSON or Parquet with conversations and image (or input_images, output_image); or a data.txt of such files",
    (("conversations",), (*LISTS, *RESULTS)),
    _row,
    more=("task", "edit_type"),
)
