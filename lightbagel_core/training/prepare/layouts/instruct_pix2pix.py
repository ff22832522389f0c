"""InstructPix2Pix: Parquet with a picture, what to do to it, and the result. UltraEdit has the same names but one.

The first picture is `original_image` in the authors' set, `input_image` in the sample of 1,000 that people begin with,
and `source_image` in UltraEdit.
"""

from __future__ import annotations

from ..rows import Row
from .records import Record, Records

SOURCES = ("original_image", "input_image", "source_image")


def _row(record: Record) -> Row:
    source = next((name for name in SOURCES if record.has(name)), SOURCES[0])
    text = record.text("edit_prompt")
    return Row(record.key, (record.picture(source),), (text,), (record.picture("edited_image"),), record.kind("task"))


LAYOUT = Records(
    "instruct-pix2pix",
    "Parquet or JSON with original_image (or input_image), edit_prompt, edited_image",
    (SOURCES, ("edit_prompt",), ("edited_image",)),
    _row,
    more=("task",),
)
