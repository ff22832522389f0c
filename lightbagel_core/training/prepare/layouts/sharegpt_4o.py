"""ShareGPT-4o-Image: a JSON list with `input_prompt`, `output_image` and, of edits, `input_image`. Its pictures come in
tar files, which are unpacked beside it first.
"""

from __future__ import annotations

from ..rows import Row
from .records import Record, Records


def _row(record: Record) -> Row:
    sources, target = record.pictures("input_image"), record.picture("output_image")
    return Row(record.key, sources, (record.text("input_prompt"),), (target,), record.kind("type"))


LAYOUT = Records(
    "sharegpt-4o-image",
    "JSON or Parquet with input_prompt, output_image and, of edits, input_image",
    (("input_prompt",), ("output_image",)),
    _row,
    more=("input_image", "type"),
)
