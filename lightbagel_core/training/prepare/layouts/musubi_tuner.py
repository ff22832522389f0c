"""musubi-tuner: folders of targets and controls (`x.png`; `x_0.png`, `x_1.png`), JSON lines, or the TOML that says
where both lie.

{"image_path": "a.png", "control_path_0": "b.png", "control_path_1": "c.png", "caption": "…"}

[general]
caption_extension = ".txt"
[[datasets]]
image_directory = "targets"
control_directory = "controls"
num_repeats = 2
[[datasets]]
image_jsonl_file = "more.jsonl"

Paths are relative to the file that they stand in. The TOML is the person's own, so its folders may lie anywhere; the
pictures of JSON lines must lie below the source, or below a JSONL file that the TOML names. The other keys say how to
train and are not read: sizes, buckets, batches and caches are training's.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..rows import LeftOut, Row, Unit
from . import folder_pairs
from .folder_pairs import Folders, beside_control
from .places import Places
from .records import Record, Records, root_of, rows_of, units_of
from .unusable import DAMAGED, damaged

NUMBERED = re.compile(r"control_path(_(\d+))?")
LINES = "lines"
UNREADABLE = {
    "video_directory": "it is of videos, and LightBagel learns from pictures",
    "video_jsonl_file": "it is of videos, and LightBagel learns from pictures",
    "multiple_target": "it has several targets a picture, and LightBagel learns from one",
}


def _row(record: Record) -> Row:
    controls = {name: NUMBERED.fullmatch(name) for name in record.values if record.value(name) is not None}
    named = sorted((int(found[2] or 0), name) for name, found in controls.items() if found)
    sources = tuple(record.picture(name) for _, name in named)
    return Row(record.key, sources, (record.text("caption"),), (record.picture("image_path"),))


@dataclass(frozen=True)
class Musubi(Records):
    def fits(self, source: Path) -> bool:
        if source.suffix.lower() != ".toml":
            return super().fits(source)
        try:
            return any({"image_directory", "image_jsonl_file"} & set(one) for one in _sets(source))
        except ValueError:
            return False

    def units(self, source: Path) -> list[Unit]:
        if source.suffix.lower() != ".toml":
            if not super().fits(source) and source.is_dir():
                folders, left_out = beside_control(source)
                return folders.units() + left_out
            return super().units(source)
        units = [unit for one in _sets(source) for unit in self._of(source, one)]
        if all(unit.inner[:1] == (DAMAGED,) for unit in units):
            raise ValueError(f"nothing of {source} can be read: {units[0].inner[1] if units else 'it has no datasets'}")
        return units

    def _of(self, source: Path, one: dict[str, Any]) -> list[Unit]:
        """The units of one of the TOML's datasets."""
        for key, why in UNREADABLE.items():
            if one.get(key):
                return [damaged(source, f"the dataset with {key} is left out: {why}")]
        folder, lines, repeats = one.get("image_directory"), one.get("image_jsonl_file"), one.get("num_repeats", 1)
        if not isinstance(repeats, int) or repeats < 1:
            raise ValueError(f"{source}: num_repeats is {repeats!r}, and must be 1 or more")
        if isinstance(lines, str):
            file = source.parent / lines
            if not file.is_file():
                return [damaged(source, f"there is no {file}")]
            try:
                found = units_of([file], file, self.name, self.needs, self.columns)
            except ValueError as error:
                return [damaged(source, str(error))]
            own = [unit if unit.inner[:1] == (DAMAGED,) else _with(unit, LINES, str(repeats)) for unit in found]
            return own
        if not isinstance(folder, str):
            raise ValueError(f"{source}: a dataset has neither image_directory nor image_jsonl_file")
        control = one.get("control_directory")
        targets, controls = source.parent / folder, (source.parent / control,) if isinstance(control, str) else ()
        for path in (targets, *controls):
            if not path.is_dir():
                return [damaged(source, f"there is no folder {path}")]
        ending = one.get("caption_extension", ".txt")
        return Folders(targets, controls, alone=not controls, ending=str(ending), repeats=repeats).units()

    def rows(self, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
        root = root_of(source)
        if unit.inner[:1] == (LINES,):
            _, repeats, *inner = unit.inner
            folder = unit.where.parent
            piece = Unit(unit.where, unit.first, unit.last, tuple(inner))
            for row in rows_of(root, piece, self.wanted, self.make, Places(folder, (folder,))):
                yield replace(row, repeats=int(repeats)) if isinstance(row, Row) else row
        elif unit.where.suffix.lower() == ".jsonl":
            yield from super().rows(source, unit)
        else:
            yield from folder_pairs.rows(root, unit)


def _with(unit: Unit, *inner: str) -> Unit:
    return replace(unit, inner=(*inner, *unit.inner))


def _sets(source: Path) -> list[dict[str, Any]]:
    """The TOML's datasets, with what [general] says for all. Raises ValueError."""
    try:
        said = tomllib.loads(source.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{source} cannot be read as TOML: {error}") from None
    general, listed = said.get("general", {}), said.get("datasets")
    if (
        not isinstance(general, dict)
        or not isinstance(listed, list)
        or not all(isinstance(one, dict) for one in listed)
    ):
        raise ValueError(f"{source} has no [[datasets]]")
    return [general | one for one in listed]


LAYOUT = Musubi(
    "musubi-tuner",
    "JSON lines with image_path, caption and control_path[_N]; a dataset TOML; or pictures with .txt beside control/",
    (("image_path",), ("caption",)),
    _row,
    endings=(".jsonl",),
)
