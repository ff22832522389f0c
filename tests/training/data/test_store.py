"""Rows come back from a store as they went in; what changed or is damaged is said, and never read."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pyarrow as pa
import pytest
from prepared_rows import stored, write_store

from lightbagel_core.training.data.store import BATCH, FILE, Manifest, Store, read_manifest

ROWS = [stored(0), stored(1, sources=1), stored(2, sources=3), stored(3, turns=2), *(stored(n) for n in range(4, 50))]


@pytest.fixture
def folder(tmp_path):
    write_store(tmp_path / "store", ROWS[:33], ROWS[33:])
    return tmp_path / "store"


def test_rows_come_back_as_they_went_in(folder):
    store = Store(folder)
    assert store.count == len(ROWS)
    for number in (49, 0, 1, 2, 3, 32, 33, BATCH):
        was, now = ROWS[number], store.row(number)
        for name in ("key", "kind", "repeats", "texts", "source_sizes", "target_sizes", "digest"):
            assert getattr(now, name) == getattr(was, name)
        for name in ("sources", "targets"):
            assert [bytes(x) for x in getattr(now, name)] == list(getattr(was, name))
        sources, targets, texts = store.measures(number)
        assert (tuple(sources), tuple(targets), tuple(texts)) == (was.source_sizes, was.target_sizes, was.texts)
    assert [digest for shard in (0, 1) for digest in store.digests(shard)] == [row.digest for row in ROWS]
    assert store.name(34).endswith("rows-00001.arrow, row 1")
    for number in (-1, len(ROWS)):
        with pytest.raises(IndexError, match="has no row"):
            store.row(number)


def test_opening_one_reads_no_row(folder):
    for file in folder.glob("*.arrow"):
        file.unlink()
    store = Store(folder)
    assert store.count == len(ROWS)
    assert len(store.checksum) == 64
    with pytest.raises(ValueError, match=r"rows-00000.arrow cannot be read \(No such file.*: the store is not whole"):
        store.row(0)


def test_a_store_that_was_moved_opens_from_its_new_place(folder, tmp_path):
    before = Store(folder).checksum
    moved = shutil.move(folder, tmp_path / "another place")
    assert Store(moved).checksum == before
    assert Store(moved).row(40).key == "row 40"


def test_pictures_are_not_copied(folder):
    before = pa.total_allocated_bytes()
    held = [Store(folder).row(number).targets for number in range(len(ROWS))]
    assert pa.total_allocated_bytes() == before
    assert all(not target.is_mutable for targets in held for target in targets)


def test_a_shard_that_changes_meanwhile_is_noticed(folder):
    store, file = Store(folder), folder / "rows-00000.arrow"
    store.row(0)
    os.utime(file, ns=(1, 1))
    with pytest.raises(ValueError, match=r"rows-00000.arrow was changed or replaced since it was opened"):
        store.measures(1)
    assert store.row(40).key == "row 40"  # of the other
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"has 1000 bytes, not \d+ as store.json says"):
        Store(folder).row(0)
    with pytest.raises(ValueError, match="was changed or replaced"):
        store.row(0)


def test_damage_within_a_shard_is_said(folder):
    """Bytes that lead anywhere in memory are refused before they are followed."""
    file = folder / "rows-00000.arrow"
    whole, place = file.read_bytes(), file.stat()
    seen = set()
    for at in range(0, len(whole), 97):
        file.write_bytes(whole[:at] + b"\xff" * 8 + whole[at + 8 :])
        os.truncate(file, len(whole))
        store = Store(folder)
        for number in range(0, 33, 8):
            try:
                store.row(number)
            except ValueError as error:
                seen.add("rows-00000.arrow is damaged" in str(error))
    assert seen == {True}
    assert place.st_size == len(whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 9}, "it is of version 9, this reads 1"),
        ({"format": "other"}, "it is no manifest of a store"),
        ({"sets": 3}, "sets is a list"),
        ({"sets": [{"name": "a"}]}, "missing"),
        ({"shards": [{"extra": 1}]}, "there is no key shards"),
    ],
)
def test_a_damaged_manifest_is_refused(folder, change, said):
    file = folder / FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=rf"store.json cannot be read: .*{said}"):
        Store(folder)


@pytest.mark.parametrize(
    ("key", "value"), [("name", "../rows-00000.arrow"), ("set", 1), ("rows", 3), ("repeats", [[33, 0]])]
)
def test_a_manifest_names_shards_of_its_own_folder(folder, key, value):
    table = json.loads((folder / FILE).read_text())
    table["shards"][0][key] = value
    (folder / FILE).write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"the shard .* (cannot be one of its own|does not have as many rows)"):
        read_manifest(folder)


def test_what_is_no_store_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"is no store of prepared data: it has no store.json; lightbagel prepare"):
        Store(tmp_path)
    (tmp_path / FILE).write_bytes(Manifest().to_bytes())
    assert Store(tmp_path).count == 0
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow: pip install 'lightbagel\[train\]'"):
        Store(tmp_path)


def test_a_shard_of_other_columns_is_refused(folder):
    file = folder / "rows-00000.arrow"
    table = pa.table({"key": ["x"]})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    said = json.loads((folder / FILE).read_text())
    said["shards"][0]["bytes"] = file.stat().st_size
    (folder / FILE).write_text(json.dumps(said))
    with pytest.raises(ValueError, match="its columns are not those of a store"):
        Store(folder).row(0)
