"""Rows and stores for tests, made without the pass that makes them for people."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lightbagel_core.files.writing import write_whole
from lightbagel_core.training.data.store import FILE, Manifest, SetAbout, StoredRow
from lightbagel_core.training.prepare.shards import ShardWriter


def encoded(
    width: int = 24, height: int = 16, level: int = 0, format: str = "PNG", mode: str = "RGB", **options
) -> bytes:
    """A picture of one colour as a file's bytes."""
    data = io.BytesIO()
    Image.new("RGB", (width, height), (level % 256, level // 256, 0)).convert(mode).save(data, format, **options)
    return data.getvalue()


def stored(number: int, sources: int = 0, turns: int = 1, repeats: int = 1) -> StoredRow:
    """A row whose pictures are a little wider the higher its number is."""
    size = (24 + number % 40, 16)
    pictures = [encoded(*size, level=number + place) for place in range(sources + turns)]
    return StoredRow(
        key=f"row {number}",
        kind="remove" if sources else "",
        repeats=repeats,
        texts=tuple(f"text {number}.{turn}" for turn in range(turns)),
        source_sizes=(size,) * sources,
        target_sizes=(size,) * turns,
        digest=hashlib.sha256(str(number).encode()).digest(),
        sources=tuple(pictures[:sources]),
        targets=tuple(pictures[sources:]),
    )


def about(name: str = "mine", rows: int = 0) -> SetAbout:
    return SetAbout(name, "folder", "my own", "cc0-1.0", "", 0, rows, rows, 0, 0, ())


def write_store(folder: Path, *shards: Sequence[StoredRow]) -> Manifest:
    """A store of one set."""
    folder.mkdir(exist_ok=True)
    manifest = Manifest((about(rows=sum(map(len, shards))),))
    for number, rows in enumerate(shards):
        writer = ShardWriter(folder, number, 0)
        for row in rows:
            writer.add(row)
        manifest = manifest.with_shard(writer.close())
    write_whole(folder / FILE, manifest.to_bytes(), folder)
    return manifest
