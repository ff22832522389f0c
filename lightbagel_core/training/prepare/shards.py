"""Shards of a store, written: rows go to the disk in batches as they come, and the file then appears under its name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ..data.store import BATCH, Shard, Size, StoredRow, pyarrow, schema

SHARD_ROWS, SHARD_BYTES = 10_000, 512 << 20  # with which a shard is full: what a kill can lose


class ShardWriter:
    """
    Args:
        folder: the store's. number: of the shard. set: the number of the set whose rows it holds.

    Raises:
        OSError: it cannot be written; so do all methods.
    """

    def __init__(self, folder: Path, number: int, set: int) -> None:
        self.file, self.set = folder / f"rows-{number:05}.arrow", set
        self.partial = folder / f".{self.file.name}.partial"
        self.rows = self.bytes = 0
        self.repeats: list[tuple[int, int]] = []
        self._waiting: list[StoredRow] = []
        self._sink = pyarrow().OSFile(str(self.partial), "wb")
        self._writer = pyarrow().ipc.new_file(self._sink, schema())

    @property
    def full(self) -> bool:
        return self.rows >= SHARD_ROWS or self.bytes >= SHARD_BYTES

    def add(self, row: StoredRow) -> None:
        self._waiting.append(row)
        if len(self._waiting) == BATCH:
            self._write()
        self.rows += 1
        self.bytes += sum(map(len, (*row.sources, *row.targets)))
        if self.repeats and self.repeats[-1][1] == row.repeats:
            self.repeats[-1] = (self.repeats[-1][0] + 1, row.repeats)
        else:
            self.repeats.append((1, row.repeats))

    def close(self) -> Shard:
        """Has the file appear under its name."""
        if self._waiting:
            self._write()
        self._writer.close()
        self._sink.close()
        with open(self.partial, "rb+") as written:
            os.fsync(written.fileno())
            told, size = hashlib.file_digest(written, "sha256").hexdigest(), os.fstat(written.fileno()).st_size
        os.replace(self.partial, self.file)
        return Shard(self.file.name, self.set, self.rows, size, told, tuple(self.repeats))

    def drop(self) -> None:
        """Leaves nothing of it."""
        self._writer.close()
        self._sink.close()
        self.partial.unlink(missing_ok=True)

    def _write(self) -> None:
        rows, self._waiting = self._waiting, []
        columns: dict[str, list[Any]] = {
            "key": [row.key for row in rows],
            "set": [self.set for _ in rows],
            "kind": [row.kind for row in rows],
            "repeats": [row.repeats for row in rows],
            "texts": [row.texts for row in rows],
            "source_sizes": [_sizes(row.source_sizes) for row in rows],
            "target_sizes": [_sizes(row.target_sizes) for row in rows],
            "digest": [row.digest for row in rows],
            "sources": [row.sources for row in rows],
            "targets": [row.targets for row in rows],
        }
        self._writer.write_batch(pyarrow().RecordBatch.from_pydict(columns, schema()))


def _sizes(sizes: tuple[Size, ...]) -> list[dict[str, int]]:
    return [{"width": width, "height": height} for width, height in sizes]
