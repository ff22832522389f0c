"""GEdit-Bench's data set as Hugging Face keeps it, in Parquet or Arrow files.

Its words are held; its pictures, about 1 MB each, are read one at a time when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ...images import read_image
from ..items import Source

TASKS = (
    "background_change",
    "color_alter",
    "material_alter",
    "motion_change",
    "ps_human",
    "style_change",
    "subject-add",
    "subject-remove",
    "subject-replace",
    "text_change",
    "tone_transfer",
)
WORDS = ("task_type", "key", "instruction", "instruction_language", "Intersection_exist")
PICTURE = "input_image"
POINTER = 1024  # bytes; a file below this is hardly one of pictures


@dataclass(frozen=True)
class Row:
    """One row. where: says where it stands. words: its columns but the pictures. source: its picture."""

    where: str
    words: dict[str, Any]
    source: Source


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """(the rows of a data set, a sentence for each of its files that cannot be read).

    Args:
        path: a file, or a folder with *.parquet somewhere in it, or else with *.arrow, as `save_to_disk` writes them.

    Raises:
        ValueError: there are no such files, or pyarrow is missing.
    """
    _arrow()
    rows, damaged = [], []
    for file in _files(path):
        try:
            for number, words in enumerate(_words(file)):
                where = f"{file.name}, row {number}"
                rows.append(Row(where, words, Source(where, partial(_picture, file, number))))
        except ValueError as error:
            damaged.append(str(error))
    return rows, damaged


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ValueError("GEdit-Bench's data set needs pyarrow; pip install pyarrow") from None
    return pyarrow


def _files(path: Path) -> list[Path]:
    if path.is_file() and path.suffix in (".parquet", ".arrow"):
        return [path]
    files = sorted(path.rglob("*.parquet")) or sorted(path.rglob("*.arrow"))
    files = [file for file in files if not file.name.startswith("cache-")]  # what `map` and `filter` leave beside
    if not files:
        raise ValueError(f"{path} is no copy of GEdit-Bench's data set: it has neither *.parquet nor *.arrow files")
    return files


def _words(file: Path) -> Iterator[dict[str, Any]]:
    """The rows' words. Raises ValueError where the file is damaged, or lacks columns."""
    for batch in _batches(file, WORDS):
        try:
            yield from batch.select(list(WORDS)).to_pylist()
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} holds text that is no UTF-8: {error}") from None


def _batches(file: Path, columns: Sequence[str], number: int | None = None) -> Iterator[Any]:
    """The rows of some columns, a few at a time; or that of one number alone.

    Raises:
        ValueError: the file is damaged, or lacks columns.
    """
    arrow = _arrow()
    try:
        if file.suffix == ".parquet":
            yield from _of_parquet(file, columns, number)
        else:
            yield from _of_arrow(arrow, file, columns, number)
    except (arrow.ArrowException, OSError, ValueError) as error:
        small = file.is_file() and file.stat().st_size < POINTER
        pointer = "; it may be a Git LFS pointer in place of the file" if small else ""
        raise ValueError(f"{file} cannot be read{pointer}: {error}") from None


def _of_parquet(file: Path, columns: Sequence[str], number: int | None) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    # By pages as they come. One picture costs its page, which is up to a row group of a hundred, and is freed at once.
    with ParquetFile(file, pre_buffer=False, buffer_size=1 << 16) as opened:
        _check(opened.schema_arrow.names)
        options = {"columns": list(columns), "use_threads": False}
        if number is None:
            yield from opened.iter_batches(**options)
            return
        for group in range(opened.num_row_groups):
            length = opened.metadata.row_group(group).num_rows
            if number < length:
                for index, batch in enumerate(opened.iter_batches(1, row_groups=[group], **options)):
                    if index == number:
                        yield batch
                        return
            number -= length


def _of_arrow(arrow: Any, file: Path, columns: Sequence[str], number: int | None) -> Iterator[Any]:
    with arrow.memory_map(str(file)) as source:
        try:
            batches = iter(arrow.ipc.open_stream(source))
        except arrow.ArrowInvalid:
            opened = arrow.ipc.open_file(source)
            batches = (opened.get_batch(index) for index in range(opened.num_record_batches))
        for batch in batches:
            _check(batch.schema.names)
            if number is None or number < len(batch):
                batch = batch.select(list(columns))
                batch.validate(full=True)  # a damaged file's offsets would lead out of memory
            if number is None:
                yield batch
            elif number < len(batch):
                yield batch.slice(number, 1)
                return
            else:
                number -= len(batch)


def _check(names: Sequence[str]) -> None:
    lacking = [name for name in (*WORDS, PICTURE) if name not in names]
    if lacking:
        raise ValueError(f"it has no column {', '.join(map(repr, lacking))}")


@lru_cache(maxsize=1)  # the picture is drawn from, and written beside what was drawn
def _content(file: Path, number: int) -> object:
    for batch in _batches(file, [PICTURE], number):
        value = batch.column(PICTURE)[0].as_py()
        return value.get("bytes") if isinstance(value, dict) else value
    return None


def _picture(file: Path, number: int) -> Image.Image:
    """The picture of a row. Raises ValueError when there is none, or it cannot be read."""
    where = f"{file.name}, row {number}: {PICTURE}"
    content = _content(file, number)
    if not isinstance(content, bytes):
        raise ValueError(f"{where} holds no picture")
    return read_image(BytesIO(content), where)
