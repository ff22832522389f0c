"""GEdit-Bench's data set in small, in the forms that Hugging Face's library writes."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [
        ("task_type", pa.string()),
        ("key", pa.string()),
        ("instruction", pa.string()),
        ("instruction_language", pa.string()),
        ("input_image", PICTURE),
        ("input_image_raw", PICTURE),
        ("Intersection_exist", pa.bool_()),
    ]
)


def picture(seed: int, size: tuple[int, int] = (8, 6)) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def row(task: str, key: str, language: str = "en", words: str = "do it", common: bool = True, content=None) -> dict:
    content = picture(0) if content is None else content
    return {
        "task_type": task,
        "key": key,
        "instruction": words,
        "instruction_language": language,
        "input_image": {"bytes": content, "path": None},
        "input_image_raw": {"bytes": picture(999), "path": "raw.png"},
        "Intersection_exist": common,
    }


def write_parquet(folder: Path, rows: list[dict], group: int = 100, name: str = "train-00000-of-00001") -> Path:
    """As on the hub: data/train-*.parquet."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    file = folder / "data" / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, row_group_size=group)
    return file


def write_arrow(folder: Path, rows: list[dict], batch: int = 2, stream: bool = True) -> Path:
    """As `save_to_disk` writes it, with the files that lie beside."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "data-00000-of-00001.arrow"
    table = pa.Table.from_pylist(rows, SCHEMA)
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(file), "wb") as sink, make(sink, SCHEMA) as writer:
        writer.write_table(table, max_chunksize=batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": file.name}]}), "utf-8")
    (folder / "cache-1234.arrow").write_bytes(b"left by a filter")
    return file
