"""A store of rows: what `lightbagel prepare` makes of other people's data, and training reads from.

store.json   rows-00000.arrow   rows-00001.arrow …   left_out.jsonl   latents/ (where they were asked for)

Each shard is an Arrow IPC file in batches of `BATCH` rows, all of one set. It is mapped, so that a row is read from its
own pages alone: opening a store reads store.json and no row, however many it has. What is planned with (sizes and
texts) stands in columns of its own before the pictures. A store refers to nothing outside its folder: it may be moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..config_file import build

FILE, LEFT_OUT, LATENTS = "store.json", "left_out.jsonl", "latents"
FORMAT, VERSION = "lightbagel-store", 1
SHARD = re.compile(r"rows-\d{5,}\.arrow")
BATCH = 16  # rows of a record batch: what is validated whole when one of them is read
OPEN = 256  # shards that are mapped at once; each takes a file handle, of which a process has some thousand
Size = tuple[int, int]


@dataclass(frozen=True)
class SetAbout:
    """What a store says of one of its sets.

    source, licence: as a person gave them, or the data said; "" where that is not known.
    stamp: of the files that it was made from. longest: pixels that its pictures were scaled down to; 0: as they were.
    examples: rows with their repeats. left_out: what no row was made of, doubles: what was there already.
    sizes: (width, height, targets) of those that the published model's rule gives its targets, the most frequent first.
    """

    name: str
    layout: str
    source: str
    licence: str
    stamp: str
    longest: int
    rows: int
    examples: int
    left_out: int
    doubles: int
    sizes: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Shard:
    """A file of rows. set: the number of theirs.

    repeats: (rows, how often each counts) of one stretch of rows after the other.
    """

    name: str
    set: int
    rows: int
    bytes: int
    sha256: str
    repeats: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Manifest:
    """What store.json says."""

    sets: tuple[SetAbout, ...] = ()
    shards: tuple[Shard, ...] = ()

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def with_shard(self, shard: Shard) -> Manifest:
        return replace(self, shards=(*self.shards, shard))

    def to_bytes(self) -> bytes:
        """As it stands in the file: the same for the same store, whenever it was made."""
        return (json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1) + "\n").encode()


@dataclass(frozen=True, eq=False)
class StoredRow:
    """A row as it lies in a store. Pictures are the bytes of files that `images.read_image` opens; read from a store
    they are where they lie.

    key: where it came from, for messages. sizes are (width, height), upright. digest: of its texts and pixels.
    """

    key: str
    kind: str
    repeats: int
    texts: tuple[str, ...]
    source_sizes: tuple[Size, ...]
    target_sizes: tuple[Size, ...]
    digest: bytes
    sources: tuple[Any, ...]
    targets: tuple[Any, ...]


def pyarrow() -> Any:
    """The library. Raises ValueError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc  # noqa: F401
    except ImportError:
        raise ValueError("a store of prepared data needs pyarrow: pip install 'lightbagel[train]'") from None
    return pyarrow


def schema() -> Any:
    """The columns of a shard, as pyarrow has them."""
    pa = pyarrow()
    sizes = pa.list_(pa.struct([pa.field("width", pa.int32(), False), pa.field("height", pa.int32(), False)]))
    pictures = pa.list_(pa.large_binary())  # large: those of a batch may have more than 2 GB
    columns = {
        "key": pa.string(),
        "set": pa.int32(),
        "kind": pa.string(),
        "repeats": pa.int32(),
        "texts": pa.list_(pa.string()),
        "source_sizes": sizes,
        "target_sizes": sizes,
        "digest": pa.binary(32),
        "sources": pictures,
        "targets": pictures,
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def read_manifest(folder: Path) -> Manifest:
    """What the store in a folder holds.

    Raises:
        ValueError: there is no store, or its manifest is damaged or of a newer version.
    """
    file = folder / FILE
    if not file.is_file():
        raise ValueError(f"{folder} is no store of prepared data: it has no {FILE}; lightbagel prepare makes one")
    try:
        return manifest_of(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None


def manifest_of(table: Any) -> Manifest:
    """A manifest from JSON. Raises ValueError or TypeError where it is none."""
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise ValueError("it is no manifest of a store")
    if table.get("version") != VERSION:
        raise ValueError(f"it is of version {table.get('version')}, this reads {VERSION}: prepare the data again")
    found: Manifest = build(Manifest, {name: table[name] for name in ("sets", "shards") if name in table})
    for shard in found.shards:
        if not SHARD.fullmatch(shard.name) or not 0 <= shard.set < len(found.sets):
            raise ValueError(f"the shard {shard.name} cannot be one of its own")
        if shard.rows != sum(rows for rows, _ in shard.repeats) or any(min(both) < 1 for both in shard.repeats):
            raise ValueError(f"the shard {shard.name} does not have as many rows as it says")
    return found


class Store:
    """The rows of a store, by number.

    Args:
        manifest: of one that is still being written; default: what store.json says.

    Raises:
        ValueError: there is no store, its manifest is damaged, or pyarrow is not installed.
    """

    def __init__(self, folder: str | Path, manifest: Manifest | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder) if manifest is None else manifest
        self.pyarrow = pyarrow()
        self.ends = np.cumsum([shard.rows for shard in self.manifest.shards], dtype=np.int64)
        self._files = [str(self.folder / shard.name) for shard in self.manifest.shards]
        self._stamps: dict[int, tuple[int, ...]] = {}
        self._lock = Lock()  # a thread may read ahead
        self._opened = lru_cache(maxsize=OPEN)(self._open)
        self._batch = lru_cache(maxsize=OPEN)(self._read_batch)

    @property
    def count(self) -> int:
        return self.manifest.rows

    @property
    def checksum(self) -> str:
        """Of all rows, in their order."""
        told = hashlib.sha256()
        for shard in self.manifest.shards:
            told.update(f"{shard.sha256} {shard.rows} {shard.repeats}\n".encode())
        return told.hexdigest()

    def measures(self, number: int) -> tuple[list[Size], list[Size], list[str]]:
        """(sizes of the sources, sizes of the targets, texts) of a row, without a look at its pictures.

        Raises:
            ValueError: as `row`.
        """
        batch, at = self._at(number)
        return _sizes(batch, "source_sizes", at), _sizes(batch, "target_sizes", at), batch["texts"][at].as_py()

    def row(self, number: int) -> StoredRow:
        """All of a row.

        Raises:
            ValueError: a shard is missing, damaged, or was changed since the store was opened; the message names it.
        """
        batch, at = self._at(number)
        return StoredRow(
            batch["key"][at].as_py(),
            batch["kind"][at].as_py(),
            batch["repeats"][at].as_py(),
            tuple(batch["texts"][at].as_py()),
            tuple(_sizes(batch, "source_sizes", at)),
            tuple(_sizes(batch, "target_sizes", at)),
            batch["digest"][at].as_py(),
            _places(batch, "sources", at),
            _places(batch, "targets", at),
        )

    def name(self, number: int) -> str:
        """What messages call a row."""
        shard = int(np.searchsorted(self.ends, number, side="right"))
        return f"{self._files[shard]}, row {number - int(self.ends[shard]) + self.manifest.shards[shard].rows}"

    def digests(self, shard: int) -> list[bytes]:
        """Of all rows of a shard.

        Raises:
            ValueError: as `row`.
        """
        rows = self.manifest.shards[shard].rows
        with self._lock:
            self._check(shard)
            batches = [self._batch(shard, number) for number in range(-(-rows // BATCH))]
        return [digest for batch in batches for digest in batch["digest"].to_pylist()]

    def _at(self, number: int) -> tuple[Any, int]:
        """The batch of a row, and its place there."""
        if not 0 <= number < self.count:
            raise IndexError(f"a store of {self.count} rows has no row {number}")
        shard = int(np.searchsorted(self.ends, number, side="right"))
        within = number - int(self.ends[shard]) + self.manifest.shards[shard].rows
        with self._lock:
            self._check(shard)
            return self._batch(shard, within // BATCH), within % BATCH

    def _check(self, shard: int) -> None:
        """Whether a shard is the file that it was; to read from one that became shorter would end the process."""
        file = self._files[shard]
        try:
            about = os.stat(file)
        except OSError as error:
            raise ValueError(f"{file} cannot be read ({error.strerror}): the store is not whole any more") from None
        stamp = about.st_size, about.st_mtime_ns, about.st_ino
        if self._stamps.setdefault(shard, stamp) != stamp:
            raise ValueError(f"{file} was changed or replaced since it was opened; begin again with the store as it is")
        if about.st_size != self.manifest.shards[shard].bytes:
            said = self.manifest.shards[shard].bytes
            raise ValueError(f"{file} has {about.st_size} bytes, not {said} as {FILE} says: copy or prepare it again")

    def _open(self, shard: int) -> Any:
        pa, file = self.pyarrow, self._files[shard]
        try:
            reader = pa.ipc.open_file(pa.memory_map(file))
            if reader.schema != schema():
                raise ValueError("its columns are not those of a store")
            if reader.num_record_batches != -(-self.manifest.shards[shard].rows // BATCH):
                raise ValueError("it does not have as many rows as it should")
        except (OSError, ValueError) as error:  # pyarrow's own errors are both
            raise ValueError(f"{file} is damaged ({error}); prepare the store again") from None
        return reader

    def _read_batch(self, shard: int, number: int) -> Any:
        rows = min(BATCH, self.manifest.shards[shard].rows - number * BATCH)
        reader = self._opened(shard)
        try:
            batch = reader.get_batch(number)
            batch.validate(full=True)  # else a damaged place in a file could send us anywhere in memory
            if batch.num_rows != rows:
                raise ValueError(f"batch {number} has {batch.num_rows} rows, not {rows}")
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._files[shard]} is damaged ({error}); prepare the store again") from None
        return {name: batch.column(at) for at, name in enumerate(batch.schema.names)}


def _places(batch: Any, name: str, at: int) -> tuple[Any, ...]:
    """The pictures of a row where they lie, which the library's own values would be copies of."""
    values = batch[name][at].values
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1].tolist()
    return tuple(data.slice(start, end - start) for start, end in pairwise(ends))


def _sizes(batch: Any, name: str, at: int) -> list[Size]:
    return [(size["width"], size["height"]) for size in batch[name][at].as_py()]
