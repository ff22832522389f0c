"""OmniEdit: Parquet with `src_img`, `edited_img` and `edited_prompt_list`, several ways to ask for the same edit.

One of them is taken, by the row's number: the same one each time, and over a set all of them equally often. The scores
are not read; who wants the best rows alone filters the set before.
"""

from __future__ import annotations

from ..rows import Row
from .records import Record, Records
from .unusable import Unusable, words


def _row(record: Record) -> Row:
    said = record.value("edited_prompt_list")
    listed = said if isinstance(said, list) else [said]
    if not listed:
        raise Unusable("edited_prompt_list is empty")
    text = words(listed[record.number % len(listed)], "edited_prompt_list")
    return Row(record.key, (record.picture("src_img"),), (text,), (record.picture("edited_img"),), record.kind("task"))


LAYOUT = Records(
    "omniedit",
    "Parquet or JSON with src_img, edited_prompt_list, edited_img",
    (("src_img",), ("edited_prompt_list",), ("edited_img",)),
    _row,
    more=("task",),
)
