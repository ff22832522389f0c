"""DPG-Bench's questions, and the answers that its scorer's model gave to them."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..json_lines import text_of

COLUMNS = ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language")
LINE = re.compile(r"(.*?), \((\d+), (\d+), (\d+), (\d+)\), (.*)")  # path, the part of the picture, question and answer

Answers = dict[str, dict[int, dict[int, float]]]  # of each prompt, for each of its pictures, to each question: 0 or 1


@dataclass(frozen=True)
class Question:
    """text: as the model is asked. category: global, entity, attribute, relation or other. parents: the numbers of the
    questions without which this one makes no sense.
    """

    text: str
    category: str
    parents: tuple[int, ...]


@dataclass
class Questions:
    """The csv's questions. of: for each prompt its questions by number, in the csv's order. first: (prompt, number) of
    the csv's first row. unusable: a sentence for each row that is left out.
    """

    of: dict[str, dict[int, Question]] = field(default_factory=lambda: defaultdict(dict))
    first: tuple[str, int] | None = None
    unusable: list[str] = field(default_factory=list)


def read_questions(file: Path) -> Questions:
    """The questions of `dpg_bench.csv`.

    Raises:
        ValueError: there is no such file, or it is none of DPG-Bench's.
    """
    questions = Questions()
    if file.is_dir():
        raise ValueError(f"{file} is a folder; name the csv file")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            if lacking := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise ValueError(
                    f"{file} is no csv of DPG-Bench: it has no column {lacking[0]!r}"
                    if rows.fieldnames
                    else f"{file} is empty"
                )
            for row in rows:
                where = f"{file.name}, line {rows.line_num}"
                try:
                    _add(questions, row, where)
                except ValueError as error:
                    questions.unusable.append(str(error))
    except FileNotFoundError:
        raise ValueError(f"there is no {file}; name the bench's dpg_bench.csv as the file of the judge") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise ValueError(f"{file} cannot be read as a csv file: {error}") from None
    for prompt, asked in questions.of.items():
        for key, question in asked.items():
            if lacking := [str(parent) for parent in question.parents if parent not in asked]:
                questions.unusable.append(f"{file.name}: question {key} of {prompt} builds on no {lacking[0]}")
    if not questions.of:
        raise ValueError(f"{file} has no question that can be used: {[*questions.unusable, 'it is empty'][0]}")
    return questions


def _add(questions: Questions, row: Mapping[str, str | None], where: str) -> None:
    if empty := [name for name in COLUMNS if not row[name]]:
        raise ValueError(f"{where}: {empty[0]!r} is empty")
    prompt, number, parents, kind, text = (row[name] or "" for name in COLUMNS)
    try:
        key, builds_on = int(number), [int(parent) for parent in parents.split(",")]
    except ValueError:
        raise ValueError(f"{where}: {number!r} or {parents!r} is no number of a question") from None
    if key in questions.of[prompt]:
        raise ValueError(f"{where}: {prompt} has a question {key} already; the first is used")
    category = re.split(r"[(-]", kind)[0].strip()
    questions.of[prompt][key] = Question(text, category, tuple(parent for parent in builds_on if parent))
    questions.first = questions.first or (prompt, key)


def read_answers(file: Path, questions: Questions) -> tuple[Answers, list[str]]:
    """The answers in the `..._detail.txt` of the official scorer, and a sentence for each line that could not be read.

    Only "yes" is a yes. Where a question was answered again, the last answer stands.

    Raises:
        ValueError: there is no such file, or no answer in it.
    """
    lines = text_of(file).rstrip("\n").split("\n")
    answers: Answers = defaultdict(lambda: defaultdict(dict))
    unreadable = []
    for number, line in enumerate(lines, 1):
        found = LINE.fullmatch(line)
        prompt = re.split(r"[/\\]", found[1])[-1].split(".")[0] if found else ""
        asked = questions.of.get(prompt, {})
        rest = found[6] if found else ""
        same = [key for key, question in asked.items() if rest.startswith(f"{question.text}, ")]
        if found is None or not same:
            unreadable.append(f"{file.name}, line {number} answers no question of the csv: {line[:80]!r}")
            continue
        longest = max(len(asked[key].text) for key in same)
        picture = 2 * (found[3] != "0") + (found[2] != "0")
        for key in same:
            if len(asked[key].text) == longest:
                answers[prompt][picture][key] = float(rest[longest + 2 :] == "yes")
    if not answers:
        raise ValueError(f"{file} has no answer that can be read: {unreadable[0]}")
    return answers, unreadable


def without_orphans(answers: Mapping[int, float], questions: Mapping[int, Question]) -> dict[int, float]:
    """The answers to one picture's questions, 0 where a parent counts 0; in the csv's order, so that it cascades."""
    counted = dict(answers)
    for key, question in questions.items():
        if any(counted.get(parent, 1.0) == 0 for parent in question.parents):
            counted[key] = 0.0
    return counted
