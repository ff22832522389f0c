"""GEdit-Bench's results: a judge's answers, and the CSVs that the official script makes of them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import Any

from ..bench import Files
from ..items import Item
from ..results import write_text
from .gedit_data import TASKS

FOLDER, ENDING, COMBINED = "eval_results_new", "_gpt_score.csv", "combined"
COLUMNS = (
    "source_image",
    "edited_image",
    "instruction",
    "sementics_score",
    "quality_score",
    "intersection_exist",
    "instruction_language",
)  # the third is spelt so in the official files
BETWEEN = "||V^=^V||"
PICTURE = re.compile(r"fullset[/\\]([^/\\]+[/\\][^/\\]+[/\\][^/\\]+)\.png$")


@dataclass(frozen=True)
class Judgement:
    """One row of a CSV; None is what a judge refused. common: whether the edit is of the intersection."""

    item: Item
    sc: float | None
    pq: float | None
    common: bool


def lowest_of(answer: str) -> float | None:
    """The lowest of the scores in a judge's answer; None where it has none, or one outside 0 to 10.

    As in the official script an answer is JSON with "score", maybe between marks or in other words, or a list of two
    scores, or one score alone.
    """
    inner = answer.split(BETWEEN)[1] if answer.count(BETWEEN) == 2 else answer
    start, end = inner.find("{"), inner.rfind("}") + 1
    if 0 <= start < end:
        scores = _of_json(inner[start:end])
    elif found := re.search(r"\[\s*\d+\s*,\s*\d+\s*\]", inner):
        scores = json.loads(found[0])
    else:
        scores = inner.strip() if re.fullmatch(r"\s*\d{1,2}\s*", inner) else None
    values = [_number(value) for value in (scores if isinstance(scores, list) else [scores])]
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def _of_json(words: str) -> Any:
    try:
        data = json.loads(words.replace("\n", ""))
        return data.get("score") if isinstance(data, dict) else None
    except (ValueError, RecursionError):  # a quote too many in the reasoning; the scores may be whole all the same
        found = re.search(r'"?score"?\s*:\s*(\[[^\]]*\]|[\d.]+)', words)
        try:
            return json.loads(found[1]) if found else None
        except (ValueError, RecursionError):
            return None


def _number(value: object) -> float | None:
    """A score as a number, None where it is none from 0 to 10."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) and 0 <= number <= 10 else None


def write_results(folder: Path, out: Path, tasks: Mapping[str, Sequence[Judgement]]) -> None:
    """Writes `<model>_<task>_gpt_score.csv` for each task; the model is called as the output folder is."""
    for task, rows in tasks.items():
        content = StringIO(newline="")
        writer = csv.writer(content)
        writer.writerow(COLUMNS)
        for row in rows:
            (source,), edited = row.item.beside, row.item.files[0][0]
            places = [(out / file).as_posix() for file in (source, edited)]
            scores = ["" if value is None else f"{value:g}" for value in (row.sc, row.pq)]
            language = row.item.id.split("/")[1]
            writer.writerow([*places, row.item.turns[0], *scores, row.common, language])
        write_text(folder / f"{out.resolve().name}_{task}{ENDING}", content.getvalue())


def read_results(files: Files) -> tuple[dict[str, tuple[float | None, float | None]], list[str]]:
    """(SC and PQ for each edit's id, a sentence for each row that could not be used).

    They are read from `files.results`, else from `eval_results_new` in the output folder or in one folder of it.

    Raises:
        ValueError: there are no such CSVs, or they are of several models.
    """
    found = _files(files)
    judged: dict[str, tuple[float | None, float | None]] = {}
    unused: list[str] = []
    for file in found:
        for name, sc, pq in _rows(file, unused):
            if name in judged:
                unused.append(f"{file.name}: {name} is judged there a second time; the first counts")
            judged.setdefault(name, (sc, pq))
    if not judged:
        raise ValueError(f"{found[0].parent} has no judgement that can be read: {unused[0] if unused else 'no rows'}")
    return judged, unused


def found_results(files: Files) -> list[Path]:
    """The CSVs in the output folder, of whatever judge and model."""
    return sorted(file for folder in _folders(files.out) for file in folder.glob(f"*{ENDING}"))


def _folders(out: Path) -> list[Path]:
    return [*out.glob(FOLDER), *out.glob(f"*/{FOLDER}")]


def _files(files: Files) -> list[Path]:
    if files.results and files.results.is_file():
        return [files.results]
    folders = [files.results] if files.results else _folders(files.out)
    if len(folders) > 1:
        raise ValueError(f"{files.out} has {FOLDER} of {len(folders)} judges; say which of them is meant")
    found = {file: file.name.removesuffix(ENDING) for folder in folders for file in folder.glob(f"*{ENDING}")}
    found = {file: name for file, name in sorted(found.items()) if not name.endswith(f"_{COMBINED}")}
    if not found:
        where = folders[0] if folders else files.out / FOLDER
        raise ValueError(f"{where} has no *{ENDING}; GEdit-Bench's test_gedit_score.py writes them")
    models = {name.removesuffix(f"_{task}") for name in found.values() for task in TASKS if name.endswith(f"_{task}")}
    if len(models) > 1:
        raise ValueError(f"{folders[0]} has results of {len(models)} models, {', '.join(sorted(models))}; part them")
    return list(found)


def _rows(file: Path, unused: list[str]) -> Iterable[tuple[str, float | None, float | None]]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            for number, row in enumerate(csv.DictReader(opened), 1):
                lacking = [name for name in COLUMNS if row.get(name) is None]
                place = PICTURE.search(row.get("edited_image") or "")
                if lacking or not place:
                    unused.append(f"{file.name}, row {number}: no {lacking[0] if lacking else 'picture of the layout'}")
                    continue
                yield place[1].replace("\\", "/"), _number(row["sementics_score"]), _number(row["quality_score"])
    except (OSError, ValueError, csv.Error) as error:
        unused.append(f"{file.name} is damaged: {error}")
