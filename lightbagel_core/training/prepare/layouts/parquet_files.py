"""Parquet files, a few rows at a time: no file, and no row group, is held whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..rows import Unit

PIECE = 256  # rows of a unit
PIECES = 64  # units of a row group at most: each reads the group from its beginning
BATCH = 8  # rows in memory
POINTER = 1024  # bytes; a file below this is hardly one of pictures


class Cells(Mapping[str, Any]):
    """A row whose cells are made Python's when they are asked for. Raises UnicodeDecodeError then."""

    def __init__(self, batch: Any, row: int) -> None:
        self.batch = batch
        self.row = row

    def __getitem__(self, name: str) -> Any:
        if name not in self.batch.schema.names:
            raise KeyError(name)
        return self.batch.column(name)[self.row].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.schema.names)

    def __len__(self) -> int:
        return len(self.batch.schema.names)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Raises ValueError where the file is damaged, or pyarrow is missing."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ValueError("Parquet files need pyarrow; pip install pyarrow") from None
    try:
        with ParquetFile(file, pre_buffer=False, buffer_size=1 << 16) as opened:
            yield opened
    except (pyarrow.ArrowException, OSError) as error:
        small = file.is_file() and file.stat().st_size < POINTER
        pointer = "; it may be a Git LFS pointer in place of the file" if small else ""
        raise ValueError(f"it cannot be read{pointer}: {str(error).splitlines()[0].rstrip('.')}") from None


def names(file: Path) -> list[str]:
    """The names of the columns. Raises ValueError."""
    with _opened(file) as opened:
        return list(opened.schema_arrow.names)


def units(file: Path) -> list[Unit]:
    """Row groups, and large ones in pieces; inner: the group's number and its first row. Raises ValueError."""
    found = []
    start = 0
    with _opened(file) as opened:
        for group in range(opened.num_row_groups):
            count = opened.metadata.row_group(group).num_rows
            piece = max(PIECE, -(-count // PIECES))
            for first in range(start, start + count, piece):
                last = min(first + piece, start + count)
                found.append(Unit(file, first, last, (str(group), str(start))))
            start += count
    return found


def read(unit: Unit, columns: Sequence[str]) -> Iterator[tuple[int, Cells]]:
    """(number, row) of a unit's rows, of those columns that are there. Raises ValueError where the file is damaged."""
    group, number = map(int, unit.inner)
    with _opened(unit.where) as opened:
        there = [name for name in opened.schema_arrow.names if name in columns]
        for batch in opened.iter_batches(BATCH, row_groups=[group], columns=there, use_threads=False):
            for row in range(len(batch)):
                if unit.first <= number < unit.last:
                    yield number, Cells(batch, row)
                number += 1
            if number >= unit.last:
                return
