"""RISEBench: edits that take reasoning about time, causes, space or logic. Its pictures are drawn here, not scored.

Its scorer reads `images/{category}/{index}.png`; BAGEL's copy of it the same without `images/`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ..bench import Bench, Files
from ..items import Item, Reading, Source, inside, safe_name
from ..prompt_file import collect, one_sample, read_json, text

TITLE = "RISEBench"


def read(files: Files, samples: int) -> Reading:
    """The edits of `data_total.json` or `datav2_total_w_subtask.json`: [{index, category, instruction, image}].

    The sources lie at `files.images` / image, or beside the prompt file when that is not given; none is opened here.

    Raises:
        ValueError: the file is none of RISEBench's, or more than one sample is asked for.
    """
    one_sample(TITLE, samples)
    data, unusable = read_json(files.prompts)
    if not isinstance(data, list):
        raise ValueError(f"{files.prompts} is no file of {TITLE}: it holds no list of edits")
    rows = ((f"{files.prompts.name}, row {number}", row) for number, row in enumerate(data, 1))
    return collect(TITLE, files.prompts, rows, partial(_item, files.images or files.prompts.parent), unusable)


def _item(root: Path, row: Any, where: str) -> Item:
    prompt, category = text(row, "instruction", where), safe_name(text(row, "category", where), where)
    name = safe_name(row.get("index"), where)
    source = Source.of_file(inside(root, row.get("image"), where))
    return Item(name, category, (prompt,), ((PurePosixPath("images", category, f"{name}.png"),),), (source,))


BENCH = Bench(
    "rise",
    TITLE,
    editing=True,
    samples=1,
    batch=1,
    read=read,
    score=None,
    official="python gpt_eval.py --data PROMPT_FILE --input FOLDER_OF_SOURCES --output {out}",
)
