"""GPT-Image-Edit's own records: JSON with `input`, `instruction` and `output`. Its training files are UniWorld's."""

from __future__ import annotations

from ..rows import Row
from .records import Record, Records


def _row(record: Record) -> Row:
    sources, target = record.pictures("input"), record.picture("output")
    return Row(record.key, sources, (record.text("instruction"),), (target,), record.kind("task"))


LAYOUT = Records(
    "gpt-image-edit",
    "JSON or Parquet with input, instruction, output",
    (("input",), ("instruction",), ("output",)),
    _row,
    more=("task",),
)
