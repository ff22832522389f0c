"""A shard appears whole under its name, and is the same whenever it is written."""

from __future__ import annotations

from prepared_rows import stored

from lightbagel_core.training.prepare import shards
from lightbagel_core.training.prepare.shards import ShardWriter


def written(folder, rows):
    folder.mkdir()
    writer = ShardWriter(folder, 3, 1)
    for row in rows:
        writer.add(row)
    assert [file.name for file in folder.iterdir()] == [".rows-00003.arrow.partial"]
    return writer.close(), (folder / "rows-00003.arrow").read_bytes()


def test_the_same_rows_are_the_same_bytes(tmp_path):
    rows = [stored(n, sources=n % 3, repeats=1 + n // 20) for n in range(41)]
    shard, content = written(tmp_path / "a", rows)
    assert written(tmp_path / "b", rows) == (shard, content)
    assert (shard.name, shard.set, shard.rows, shard.bytes) == ("rows-00003.arrow", 1, 41, len(content))
    assert shard.repeats == ((20, 1), (20, 2), (1, 3))
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["rows-00003.arrow"]


def test_a_shard_is_full_by_rows_or_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", 3)
    writer = ShardWriter(tmp_path, 0, 0)
    full = []
    for n in range(3):
        writer.add(stored(n))
        full.append(writer.full)
    assert full == [False, False, True]
    monkeypatch.setattr(shards, "SHARD_ROWS", 9)
    assert not writer.full
    monkeypatch.setattr(shards, "SHARD_BYTES", writer.bytes)
    assert writer.full
    writer.drop()
    assert list(tmp_path.iterdir()) == []
