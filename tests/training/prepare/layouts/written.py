"""Samples of other people's data sets, written by hand, and what a layout reads of them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightbagel_core.training.prepare.layouts import find
from lightbagel_core.training.prepare.rows import LeftOut, Row

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as Hugging Face writes pictures


def file(path: Path, content: str | bytes | None = None) -> Path:
    """Writes a file; one that is to be a picture gets its name as content, for layouts decode nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        content = path.name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        file(folder / name)


def lines(path: Path, *records: object) -> Path:
    return file(path, "".join(json.dumps(record) + "\n" for record in records))


def parquet(path: Path, columns: dict[str, pa.Array], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def stored(*contents: bytes | None) -> pa.Array:
    """A column of pictures, null for None."""
    return pa.array([None if one is None else {"bytes": one, "path": "a.png"} for one in contents], PICTURE)


def read(source: Path, name: str | None = None, expect: str | None = None) -> tuple[list[Row], dict[str, str]]:
    """(the rows, why others are left out by their keys) of a source, each unit read as another process would."""
    layout = find(source, name)
    assert expect is None or layout.name == expect
    units = layout.units(source)
    assert units == layout.units(source)
    layout, units = pickle.loads(pickle.dumps((layout, units)))  # noqa: S301
    found = [one for unit in units for one in layout.rows(source, unit)]
    again = [one for unit in reversed(units) for one in layout.rows(source, unit)]
    assert sorted(map(repr, again)) == sorted(map(repr, found))
    left_out = [one for one in found if isinstance(one, LeftOut)]
    assert len({one.key for one in found}) == len(found), "two rows share a key"
    for one in left_out:
        assert not one.why.endswith(".")
        (one.key + one.why).encode()
    return [one for one in found if isinstance(one, Row)], {one.key: one.why for one in left_out}


def told(row: Row) -> tuple[list[bytes], tuple[str, ...], list[bytes]]:
    """(what the sources' files hold, texts, what the targets' files hold) of a row."""
    return [one.read() for one in row.sources], row.texts, [one.read() for one in row.targets]
