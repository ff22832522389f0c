"""WISE: 1,000 prompts that need knowledge of the world.

There are two editions: the original, judged in three ways from 0 to 2, and WISE_Verified, judged right or wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ..bench import Answer, Bench, Files, Judged, Question
from ..items import Item, Reading, safe_name
from ..judge.templates import message
from ..prompt_file import collect, one_sample, read_json, text
from ..results import Outcome, drawn, is_drawn, left_out, png_of, worst, write_text
from ..scores import Score, Scores
from ..statistics import bootstrap, mean_of_all, mean_of_means, wilson
from .wise_results import LEGACY, RESULTS, VERIFIED, Edition, found_results, marks_of, read_results

NAME, TITLE = "wise", "WISE"
MERGED, REWRITTEN = "merge.json", "_rewrite"
JUDGE_PROMPTS = "vllm_eval.py, or WISE_legacy/gpt_eval.py"
FIELDS = ("prompt_data['Prompt']", "prompt_data['Explanation']")
# What the prompt files call the categories.
CATEGORIES = {
    "cultural knowledge": "culture",
    "time": "time",
    "space": "space",
    "biology": "biology",
    "physical knowledge": "physics",
    "chemistry": "chemistry",
}
Rows = dict[str, Mapping[str, Any]]


def read(files: Files, samples: int) -> Reading:
    """The prompts of WISE's JSON: [{Prompt, Explanation, Category, Subcategory, prompt_id}].

    Args:
        files: `prompts` is one such file, or a folder of them: `merge.json` if it has one, else all *.json but the
            rewritten prompts.

    Raises:
        ValueError: there is no prompt of WISE's, or more than one sample is asked for.
    """
    one_sample(TITLE, samples)
    return _read(files)[0]


def _read(files: Files) -> tuple[Reading, Rows]:
    """(the prompts, for each id its row)."""
    found = [files.prompts]
    if files.prompts.is_dir():
        merged = files.prompts / MERGED
        every = sorted(file for file in files.prompts.glob("*.json") if REWRITTEN not in file.stem)
        found = [merged] if merged.is_file() else every
    rows: list[tuple[str, Any]] = []
    unusable: list[str] = []
    for file in found:
        try:
            data, repeated = read_json(file)
            if not isinstance(data, list):
                raise ValueError(f"{file} is no file of {TITLE}: it holds no list of prompts")
        except ValueError as error:
            unusable.append(str(error))
            continue
        unusable += repeated
        rows += [(f"{file.name}, entry {number}", row) for number, row in enumerate(data)]
    by_id: Rows = {}
    return collect(TITLE, files.prompts, rows, partial(_item, by_id), unusable), by_id


def _item(by_id: Rows, row: Any, where: str) -> Item:
    prompt, category = text(row, "Prompt", where), text(row, "Category", where)
    text(row, "Explanation", where)
    number = row.get("prompt_id")
    if type(number) is not int or not 1 <= number <= 1000:
        raise ValueError(f"{where}: the prompt_id {number!r} is no whole number from 1 to 1000")
    name = safe_name(number, where)
    by_id.setdefault(name, row)
    return Item(name, category, (prompt,), ((PurePosixPath(f"{name}.png"),),))


def questions(files: Files) -> list[Question]:
    """For each picture that is there the question of the user's copy of `vllm_eval.py` or `WISE_legacy/gpt_eval.py`."""
    user = message(files.judge_prompts, "user", FIELDS, JUDGE_PROMPTS)
    if set(user.fields) != set(FIELDS):
        raise ValueError(f"{files.judge_prompts}: the judge's prompt has no place for both prompt and explanation")
    try:
        system = message(files.judge_prompts, "system", (), JUDGE_PROMPTS).filled({})
    except ValueError:
        if files.judge_prompts and files.judge_prompts.suffix == ".py":
            raise
        system = ""  # a plain file need not have one
    edition = LEGACY if "aesthetic quality" in "".join(user.texts).lower() else VERIFIED
    reading, rows = _read(files)
    asked = []
    for item in reading.items:
        if is_drawn(files.out, item):
            values = dict(zip(FIELDS, (item.turns[0], rows[item.id]["Explanation"]), strict=True))
            picture = png_of(drawn(files.out, item))
            asked.append(Question(item.id, user.filled(values), (picture,), partial(_readable, edition), system))
    return asked


def _readable(edition: Edition, answer: str) -> bool:
    marks = marks_of(answer)
    return marks is not None and set(marks) == set(edition.marks)


def record(files: Files, answers: Mapping[str, Answer]) -> Path:
    """Writes a line of JSON for each judgement, as the official scripts do: they leave out what they could not read."""
    reading, rows = _read(files)
    lines = []
    for item in reading.items:
        said = answers[item.id].text if item.id in answers else None
        marks = None if said is None else marks_of(said)
        if marks:
            row = rows[item.id]
            lines.append({"prompt_id": row["prompt_id"], "Subcategory": row.get("Subcategory", ""), **marks})
    file = files.out / RESULTS
    write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return file


def score(files: Files) -> Scores:
    """The figures of what the official scripts, or `record`, wrote; which edition of WISE it is follows from that.

    The original gives (0.7 consistency + 0.2 realism + 0.1 aesthetic quality) / 2 for a picture, WISE_Verified 0 or 1.
    The first headline weighs the categories as the official scripts do, the second counts all the same, as BAGEL's
    script does. What is missing or was refused counts as 0; without all ids the official scripts give no figure.

    Raises:
        ValueError: there are no results, they are of both editions, or of another one than the prompts.
    """
    reading, rows = _read(files)
    edition, judged, unused = read_results(files)
    values: dict[str, list[list[float]]] = {name: [] for name in edition.categories}
    outcomes = []
    for item in reading.items:
        number = rows[item.id]["prompt_id"]
        category = edition.category(number)
        named = CATEGORIES.get(item.group.lower(), category)
        if named != category:
            raise ValueError(
                f"{files.prompts} has prompt {item.id} under {item.group!r}, but the results are of {edition.title},"
                f" where it is of {category}: give the prompts of that edition"
            )
        outcomes.append(_outcome(files.out, item, edition, judged.get(number)))
        values[category].append([outcomes[-1].value])
    if not judged.keys() & {rows[item.id]["prompt_id"] for item in reading.items}:
        raise ValueError(f"{files.prompts} and the results have no prompt in common")
    there = {name: clusters for name, clusters in values.items() if clusters}
    overall: dict[str, Score] = {}
    notes = [f"This is {edition.title}."]
    if len(there) == len(values):
        overall["overall"] = bootstrap(there, edition.weighted)
    else:
        notes.append(f"There are prompts of {', '.join(there)} alone, so there is no weighted figure.")
    overall["mean of categories"] = bootstrap(there, mean_of_means)
    return Scores(
        NAME,
        "share",
        overall,
        {name: _share(edition, name, clusters) for name, clusters in there.items()},
        sum(outcome.lost == "missing" for outcome in outcomes),
        sum(outcome.lost == "refused" for outcome in outcomes),
        [*notes, *left_out(files.prompts, reading.unusable), *left_out(files.out / RESULTS, unused)],
        worst(outcomes, 1, files.out),
    )


def _share(edition: Edition, name: str, clusters: list[list[float]]) -> Score:
    if edition is LEGACY:
        return bootstrap({name: clusters}, mean_of_all)
    return wilson(int(sum(value for (value,) in clusters)), len(clusters))


def _outcome(out: Path, item: Item, edition: Edition, marks: Mapping[str, float] | None) -> Outcome:
    if marks is not None:
        return Outcome(item, edition.value(marks), ", ".join(f"{name} {mark:g}" for name, mark in marks.items()))
    if is_drawn(out, item):
        return Outcome(item, 0.0, "there is no judgement", "refused")
    return Outcome(item, 0.0, "the picture is missing", "missing")


BENCH = Bench(
    NAME,
    TITLE,
    editing=False,
    samples=1,
    batch=4,
    read=read,
    score=score,
    judged=Judged(questions, record, found_results),
    official="IMAGE_DIR={out} bash eval_qwen.sh",
)
