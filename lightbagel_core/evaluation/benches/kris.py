"""KRIS-Bench: edits of one or several pictures that take knowledge. Its pictures are drawn here, not scored.

The layout is the one of BAGEL's scorer. KRIS-Bench's own looks for `{type}/{id}.jpg` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ..bench import Bench, Files
from ..items import Item, Reading, Source, inside, safe_name
from ..prompt_file import collect, one_sample, read_json, text

TITLE = "KRIS-Bench"
LAYOUT = "expected is BAGEL's final_data.json, or the bench's folder with <type>/annotation.json"


def read(files: Files, samples: int) -> Reading:
    """The edits of KRIS-Bench, in either of its forms.

    One is BAGEL's `final_data.json`, [{id, type, ori_img, ins_en}]; the other the folder of the bench itself, with an
    `annotation.json` in the folder of each type, {id: {ori_img, ins_en}}. The sources lie at `files.images` / type /
    ori_img; when that is not given, beside `final_data.json` or in the bench's folder. None is opened here.

    Raises:
        ValueError: the file or folder is none of KRIS-Bench's, or more than one sample is asked for.
    """
    one_sample(TITLE, samples)
    unusable: list[str] = []
    if files.prompts.is_dir():
        root, rows = files.prompts, _folder(files.prompts, unusable)
    else:
        root, rows = files.prompts.parent, _list(files.prompts, unusable)
    return collect(TITLE, files.prompts, list(rows), partial(_item, files.images or root), unusable, LAYOUT)


def _list(file: Path, unusable: list[str]) -> Iterator[tuple[str, Any]]:
    data, repeated = read_json(file)
    unusable += repeated
    if not isinstance(data, list):
        raise ValueError(
            f"{file} is no file of {TITLE}: it holds no list of edits; for annotation.json name the bench's folder"
        )
    yield from ((f"{file.name}, row {number}", row) for number, row in enumerate(data, 1))


def _folder(folder: Path, unusable: list[str]) -> Iterator[tuple[str, Any]]:
    """The rows of each type as they would stand in the list; a type's file that cannot be read is said."""
    for file in sorted(folder.glob("*/annotation.json")):
        kind = file.parent.name
        try:
            data, repeated = read_json(file)
            if not isinstance(data, dict):
                raise ValueError(f"{file} holds no object of {{id: edit}}")
        except ValueError as error:
            unusable.append(str(error))
            continue
        unusable += [f"{kind}/{sentence}" for sentence in repeated]
        for key, row in data.items():
            yield (
                f"{kind}/{file.name}, id {key!r}",
                {**row, "id": key, "type": kind} if isinstance(row, dict) else row,
            )


def _item(root: Path, row: Any, where: str) -> Item:
    prompt, kind = text(row, "ins_en", where), safe_name(text(row, "type", where), where)
    name, sources = safe_name(row.get("id"), where), row.get("ori_img")
    if isinstance(sources, str):
        sources = [sources]
    if not isinstance(sources, list) or not sources:
        raise ValueError(f"{where}: 'ori_img' names no pictures")
    below = inside(root, kind, where)
    opened = tuple(Source.of_file(inside(below, source, where)) for source in sources)
    return Item(f"{kind}/{name}", kind, (prompt,), ((PurePosixPath(kind, f"{name}.png"),),), opened)


BENCH = Bench(
    "kris",
    TITLE,
    editing=True,
    samples=1,
    batch=1,
    read=read,
    score=None,
    official="python eval/gen/kris/metrics_common.py --results_dir FOLDER_ABOVE, and BAGEL's other four for {out}",
)
