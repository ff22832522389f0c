"""ImgEdit Basic: 737 edits of nine types, each judged in three ways from 1 to 5."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ..bench import Bench, Files
from ..items import Item, Reading, Source, inside, safe_name
from ..prompt_file import collect, one_sample, read_json, text

TITLE = "ImgEdit Basic"


def read(files: Files, samples: int) -> Reading:
    """The edits of `basic_edit.json`: {key: {id, prompt, edit_type}}.

    The sources lie at `files.images` / id, or beside the prompt file when that is not given; none is opened here.

    Raises:
        ValueError: the file is none of ImgEdit's, or more than one sample is asked for.
    """
    one_sample(TITLE, samples)
    data, unusable = read_json(files.prompts)
    if not isinstance(data, dict):
        raise ValueError(f"{files.prompts} is no file of {TITLE}: it holds no object of {{key: edit}}")
    rows = ((f"{files.prompts.name}, key {key!r}", (key, row)) for key, row in data.items())
    return collect(TITLE, files.prompts, rows, partial(_item, files.images or files.prompts.parent), unusable)


def _item(root: Path, keyed: tuple[str, Any], where: str) -> Item:
    key, row = keyed
    prompt, group = text(row, "prompt", where), text(row, "edit_type", where)
    name = safe_name(key, where)
    source = Source.of_file(inside(root, row.get("id"), where))
    return Item(name, group, (prompt,), ((PurePosixPath(f"{name}.png"),),), (source,))


BENCH = Bench("imgedit", TITLE, editing=True, samples=1, batch=1, read=read, score=None)
