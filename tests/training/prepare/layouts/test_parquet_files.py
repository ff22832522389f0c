"""Parquet a few rows at a time, and files that are damaged."""

from __future__ import annotations

import pyarrow as pa
import pytest
from written import file, parquet, stored

from lightbagel_core.training.prepare.layouts import parquet_files


@pytest.fixture
def path(tmp_path):
    columns = {
        "n": pa.array(range(1000)),
        "picture": stored(*(b"%d" % n for n in range(1000))),
        "m": pa.array([0] * 1000),
    }
    return parquet(tmp_path / "a.parquet", columns, row_group_size=600)


def test_units_are_pieces_of_row_groups(path):
    units = parquet_files.units(path)
    assert [(unit.first, unit.last) for unit in units] == [(0, 256), (256, 512), (512, 600), (600, 856), (856, 1000)]
    for unit in units:
        found = [
            (number, row["n"], row["picture"]["bytes"]) for number, row in parquet_files.read(unit, ["n", "picture"])
        ]
        assert found == [(n, n, b"%d" % n) for n in range(unit.first, unit.last)]
    assert parquet_files.names(path) == ["n", "picture", "m"]


def test_only_the_columns_that_are_asked_for_are_read(path):
    (_, row), *_ = parquet_files.read(parquet_files.units(path)[0], ["n", "none"])
    assert list(row) == ["n"]
    assert row.get("m") is None
    assert len(row) == 1


def test_a_huge_row_group_has_few_pieces(tmp_path):
    """Each reads its group from the beginning."""
    units = parquet_files.units(parquet(tmp_path / "a.parquet", {"n": pa.array(range(100_000))}))
    assert len(units) == parquet_files.PIECES
    assert sum(unit.last - unit.first for unit in units) == 100_000


def test_a_cell_that_is_not_utf_8_is_met_where_it_is_asked_for(tmp_path):
    text = pa.array([b"caf\xe9", b"ok"], pa.binary()).view(pa.string())
    rows = [
        row
        for _, row in parquet_files.read(parquet_files.units(parquet(tmp_path / "a.parquet", {"t": text}))[0], ["t"])
    ]
    assert rows[1]["t"] == "ok"
    with pytest.raises(UnicodeDecodeError):
        rows[0]["t"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"version https://git-lfs.github.com/spec/v1\n", b"x" * 5000])
def test_a_damaged_file_is_said(tmp_path, content):
    for of in (parquet_files.names, parquet_files.units):
        with pytest.raises(ValueError, match="it cannot be read") as told:
            of(file(tmp_path / "a.parquet", content))
        assert ("Git LFS" in str(told.value)) == (len(content) < 1024)


def test_a_file_that_is_damaged_inside_ends_in_a_sentence(path):
    content = bytearray(path.read_bytes())
    content[200:4000] = b"\xff" * 3800
    path.write_bytes(content)
    with pytest.raises(ValueError, match="it cannot be read"):
        list(parquet_files.read(parquet_files.units(path)[0], ["n", "picture"]))
