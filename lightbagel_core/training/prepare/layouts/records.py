"""Layouts whose rows are records, rows of Parquet files or objects of JSON files: they differ in their names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..rows import LeftOut, Picture, Row, Unit
from . import json_files, parquet_files
from .places import Places
from .unusable import Unusable, damage, damaged, described, key_of, printable, words

PARQUET = (".parquet",)
JSON = (".json", ".jsonl")
TURNS = "turns"  # what a record that is a list is called
TRIED = 8  # files that are looked into before a source is held for another layout
NAMED = 12  # columns that a message names


@dataclass(frozen=True)
class Record:
    """One record.

    key: where it stands. number: its row in its file, from 0.
    """

    key: str
    number: int
    values: Mapping[str, Any]
    places: Places

    def value(self, name: str) -> Any:
        """Raises Unusable where a cell cannot be read, as a text that is not UTF-8."""
        try:
            return self.values.get(name)
        except UnicodeDecodeError:
            raise Unusable(f"{name} is not UTF-8; save it as UTF-8") from None

    def has(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str:
        return words(self.value(name), name)

    def kind(self, *names: str) -> str:
        """The first of these that holds a text; what kind an edit is of may be missing."""
        return next((printable(value.strip()) for value in map(self.value, names) if isinstance(value, str)), "")

    def picture(self, name: str) -> Picture:
        return self.places.picture(self.value(name), f"{self.key}, {name}")

    def pictures(self, name: str) -> tuple[Picture, ...]:
        """Those of a list; a single one is taken for a list of one."""
        return self.each(self.value(name), name)

    def each(self, value: Any, name: str) -> tuple[Picture, ...]:
        if value is None:
            return ()
        listed = value if isinstance(value, list) else [value]
        return tuple(self.places.picture(one, f"{self.key}, {name} {at}") for at, one in enumerate(listed))


@dataclass(frozen=True)
class Records:
    """A layout of records.

    needs: what people read of it in messages.
    columns: what every record has; of those in one tuple, one at least.
    more: what is read beside them, where it is there.
    make: a row of a record. Raises Unusable.
    endings: of the files that it reads.
    """

    name: str
    needs: str
    columns: tuple[tuple[str, ...], ...]
    make: Callable[[Record], Row]
    more: tuple[str, ...] = ()
    endings: tuple[str, ...] = (*PARQUET, *JSON)

    def fits(self, source: Path) -> bool:
        for file in files_of(source, self.endings)[:TRIED]:
            try:
                if not lacking(self.columns, names_of(file)):
                    return True
            except ValueError:
                continue
        return False

    def units(self, source: Path) -> list[Unit]:
        return units_of(files_of(source, self.endings), source, self.name, self.needs, self.columns)

    def rows(self, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
        yield from rows_of(root_of(source), unit, self.wanted, self.make, places_of(source, unit.where))

    @property
    def wanted(self) -> list[str]:
        """All columns that are read."""
        return [*itertools.chain(*self.columns), *self.more]


def root_of(source: Path) -> Path:
    """What no path leads out of: the source, or the folder of one that is a file."""
    return source if source.is_dir() else source.parent


def places_of(source: Path, file: Path) -> Places:
    """Paths in a file are relative to its folder, or to the source."""
    root = root_of(source)
    return Places(root, tuple(dict.fromkeys((file.parent, root))))


def files_of(source: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files of some endings in a source, in a folder at any depth, sorted; hidden ones are left out."""
    if source.is_file():
        return [source] if source.suffix.lower() in endings else []
    found = []
    for folder, below, names in os.walk(source):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [Path(folder, name) for name in names if name.lower().endswith(endings) and not name.startswith(".")]
    return sorted(found)


def names_of(file: Path) -> list[str]:
    """The columns of a Parquet file, or the names in the first records of one of JSON. Raises ValueError."""
    return parquet_files.names(file) if file.suffix.lower() in PARQUET else json_files.names(file)


def lacking(columns: tuple[tuple[str, ...], ...], names: list[str]) -> list[str]:
    """The columns that are wanted and not there, for a message."""
    return [" or ".join(one) for one in columns if not set(one) & set(names)]


def units_of(
    files: list[Path], source: Path, name: str, needs: str, columns: tuple[tuple[str, ...], ...]
) -> list[Unit]:
    """The units of files of records; a file that is damaged, or of another kind, is left out as a whole.

    Raises:
        ValueError: there are no files, or none that can be used.
    """
    if not files:
        raise ValueError(f"{source} is not laid out as {name}: it needs {needs}, and there are no such files")
    units: list[Unit] = []
    wrong = []
    for file in files:
        try:
            names = names_of(file)
            lacks = lacking(columns, names)
            if lacks:
                listed = ", ".join(map(printable, names[:NAMED])) + (", …" if len(names) > NAMED else "")
                raise ValueError(f"it lacks {', '.join(lacks)} and has {listed or 'no names'}")
            units += parquet_files.units(file) if file.suffix.lower() in PARQUET else json_files.units(file)
        except ValueError as error:
            wrong.append(f"{key_of(root_of(source), file)}: {error}")
            units.append(damaged(file, str(error)))
    if len(wrong) == len(files):
        more = f", and {len(wrong) - 1} more files" if len(wrong) > 1 else ""
        raise ValueError(f"{source} is not laid out as {name}, which needs {needs}. {wrong[0]}{more}")
    return units


def rows_of(
    root: Path, unit: Unit, wanted: Sequence[str], make: Callable[[Record], Row], places: Places
) -> Iterator[Row | LeftOut]:
    """The rows of a unit of `units_of`, of the columns that are wanted."""
    left_out = damage(root, unit)
    if left_out is not None:
        yield left_out
        return
    file = key_of(root, unit.where)
    parquet = unit.where.suffix.lower() in PARQUET
    number = unit.first
    try:
        for number, values in parquet_files.read(unit, wanted) if parquet else json_files.read(unit):
            key = f"{file}, row {number}"
            try:
                if isinstance(values, Unusable):
                    raise values
                if isinstance(values, list):
                    values = {TURNS: values}
                if not isinstance(values, Mapping):
                    raise Unusable(f"it is no object but {described(values)}")
                yield make(Record(key, number, values, places))
            except Unusable as error:
                yield LeftOut(key, str(error))
    except ValueError as error:  # of the file
        yield LeftOut(f"{file}, rows {number} to {unit.last - 1}", str(error))
