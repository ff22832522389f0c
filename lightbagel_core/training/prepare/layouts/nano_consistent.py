"""Nano-consistent-150k: JSON lines with `instruction`, `input_images` and `output_image`, whose paths begin with
`Nano-150k/` wherever they were unpacked.
"""

from __future__ import annotations

from ..rows import Row
from .records import Record, Records


def _row(record: Record) -> Row:
    sources, target = record.pictures("input_images"), record.picture("output_image")
    return Row(record.key, sources, (record.text("instruction"),), (target,), record.kind("task_type", "task"))


LAYOUT = Records(
    "nano-consistent-150k",
    "JSON lines or Parquet with instruction, input_images, output_image",
    (("instruction",), ("input_images",), ("output_image",)),
    _row,
    more=("task_type", "task"),
)
