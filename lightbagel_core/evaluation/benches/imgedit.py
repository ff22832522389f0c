"""ImgEdit Basic: 737 edits of nine types, each judged in three ways from 1 to 5."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any

from ..bench import Answer, Bench, Files, Judged, Question
from ..items import Item, Reading, Source, inside, safe_name
from ..judge.templates import named
from ..prompt_file import collect, one_sample, read_json, text
from ..results import Outcome, drawn, is_drawn, left_out, png_of, worst, write_text
from ..scores import Scores
from ..statistics import bootstrap, mean_of_all, mean_of_means

NAME, TITLE = "imgedit", "ImgEdit Basic"
RESULTS, JUDGE_PROMPTS = "result.json", "prompts.json"
GAP = "<edit_prompt>"
WORDS = re.compile(r"[:：][\s*]*[^\W\d]")  # behind a colon
LOWEST, HIGHEST = 1, 5


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


def marks(answer: str) -> list[int]:
    """A judge's marks, read as the official script reads them: of every line "name: whole number" the number."""
    parts = [line.strip().split(": ") for line in answer.splitlines()]
    return [int(part[1]) for part in parts if len(part) == 2 and part[1].isdecimal() and len(part[1]) < 4]


def _in_range(found: Sequence[int]) -> bool:
    return bool(found) and all(LOWEST <= mark <= HIGHEST for mark in found)


def _readable(answer: str) -> bool:
    return len(marks(answer)) == 3 and _in_range(marks(answer))


def questions(files: Files) -> list[Question]:
    """For each picture that is there, its type's prompt of `prompts.json`, then the source and the edited picture.

    Where `files.judge_prompts` is not given, the file beside the prompt file is taken.
    """
    items = [item for item in read(files, 1).items if is_drawn(files.out, item)]
    if not items:
        return []
    near = files.prompts.with_name(JUDGE_PROMPTS)
    types = sorted({item.group for item in items})
    given = files.judge_prompts or (near if near.is_file() else None)
    prompts = dict(zip(types, named(given, types, JUDGE_PROMPTS), strict=True))
    for name, prompt in prompts.items():
        if GAP not in prompt:
            raise ValueError(f"{given}: the judge's prompt for {name!r} has no {GAP}, so it would see no instruction")
    return [
        Question(
            item.id,
            prompts[item.group].replace(GAP, item.turns[0]),
            (png_of(item.sources[0].open), png_of(drawn(files.out, item))),
            _readable,
        )
        for item in items
    ]


def record(files: Files, answers: Mapping[str, Answer]) -> Path:
    """Writes `result.json` as the official script does: {key: what was answered, or {"error": why nothing was}}.

    It goes into the output folder.
    """
    none = Answer(None, "there is no picture")
    given = {item.id: answers.get(item.id, none) for item in read(files, 1).items}
    content = {key: {"error": answer.reason} if answer.text is None else answer.text for key, answer in given.items()}
    file = files.out / RESULTS
    write_text(file, json.dumps(content, indent=4))
    return file


def found_results(files: Files) -> list[Path]:
    """The results in the output folder."""
    return [file for file in [files.out / RESULTS] if file.is_file()]


def score(files: Files) -> Scores:
    """The figures of `result.json`: of each edit the mean of its marks, of each type the mean of its edits.

    The first headline is the mean of the types' means, the second the mean of all edits. A picture that is missing, and
    a judgement that is, or has a mark outside 1 to 5 or none, count as 1; the official scripts leave out what has no
    marks, and take any number for a mark. They also round every edit and every type to two decimals; nothing is here.

    Raises:
        ValueError: there are no results, or they are of other edits.
    """
    reading = read(files, 1)
    file = files.results or files.out / RESULTS
    if not file.exists():
        raise ValueError(f"there is no {file}; ImgEdit's basic_bench.py writes it, or a judge with --judge-url")
    answers, repeated = read_json(file)
    if not isinstance(answers, dict) or not any(item.id in answers for item in reading.items):
        raise ValueError(f"{file} has no judgement of an edit of {files.prompts}; ImgEdit's basic_bench.py writes it")
    outcomes = [_outcome(files, item, answers.get(item.id)) for item in reading.items]
    types: dict[str, list[list[float]]] = {}
    for outcome in outcomes:
        types.setdefault(outcome.item.group, []).append([outcome.value])
    judged = [marks(answers[outcome.item.id]) for outcome in outcomes if not outcome.lost]
    return Scores(
        NAME,
        "1-5",
        {"mean of types": bootstrap(types, mean_of_means), "mean of samples": bootstrap(types, mean_of_all)},
        {name: bootstrap({name: values}, mean_of_all) for name, values in types.items()},
        sum(outcome.lost == "missing" for outcome in outcomes),
        sum(outcome.lost == "refused" for outcome in outcomes),
        [*_notes(judged), *left_out(files.prompts, reading.unusable), *left_out(file, repeated)],
        worst(outcomes, HIGHEST, files.out),
    )


def _said(answer: str) -> str:
    """The line of a judgement that says why: the first, or where that is only a heading, the first with words behind a
    colon, or else the first that is neither a heading nor a mark.
    """
    lines = list(filter(None, (line.replace("**", "").strip(" \t*#") for line in answer.splitlines())))
    why = [line for line in lines if WORDS.search(line)]
    if lines[0] in why or (len(lines[0].split()) > 4 and not lines[0].endswith(":")):
        return lines[0]
    return next(iter([*why, *(line for line in lines[1:] if ":" not in line), lines[0]]))


def _outcome(files: Files, item: Item, answer: object) -> Outcome:
    if isinstance(answer, str):
        found = marks(answer)
        if _in_range(found):
            return Outcome(item, fmean(found), _said(answer))
        return Outcome(item, LOWEST, "the judgement cannot be read", "refused")
    if not is_drawn(files.out, item):
        return Outcome(item, LOWEST, "the picture is missing", "missing")
    reason = answer.get("error") if isinstance(answer, dict) else None
    return Outcome(item, LOWEST, str(reason or "there is no judgement"), "refused")


def _notes(judged: Sequence[Sequence[int]]) -> list[str]:
    above = sum(len(found) == 3 and max(found[1:]) > found[0] for found in judged)
    other = sum(len(found) != 3 for found in judged)
    notes = ["Nothing is rounded on the way; the official scripts round each edit and each type to two decimals."]
    if above:
        notes.append(
            f"In {above:,} of {len(judged):,} judgements the second or third mark is above the first, which the judge's"
            " prompt forbids; they count as they are, as in the official scripts."
        )
    if other:
        notes.append(f"{other:,} of {len(judged):,} judgements have other than three marks; the mean of those counts.")
    return notes


BENCH = Bench(
    NAME,
    TITLE,
    editing=True,
    samples=1,
    batch=1,
    read=read,
    score=score,
    judged=Judged(questions, record, found_results),
    official="python basic_bench.py --result_img_folder {out} --edit_json basic_edit.json"
    " --origin_img_root IMAGES --prompts_json prompts.json",
)
