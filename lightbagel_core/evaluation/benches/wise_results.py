"""WISE's two editions, what a judge answers in each, and the files that the official scripts make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bench import Files

RESULTS = "Results/wise_scores.jsonl"
PATTERN = "*scores*.jsonl"
NAMED = re.compile(r"\b(consistency|realism|aesthetic quality|score)[\s*:：]*(\d+)(?!\d|\.\d)", re.IGNORECASE)
THOUGHT = "</think>"
ALONE = re.compile(r"^\s*([0-2])\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Edition:
    """One edition of WISE.

    marks: the marks of a picture, each with its weight; whole numbers, so that the best is 1 and no rounding less.
    highest: of a mark, from 0 on in whole steps.
    categories: each with the last prompt_id that is of it, and its weight in the overall figure.
    """

    title: str
    marks: Mapping[str, int]
    highest: int
    categories: Mapping[str, tuple[int, float]]

    def category(self, number: int) -> str:
        """The category of a prompt_id from 1 to 1000."""
        return next(name for name, (last, _) in self.categories.items() if number <= last)

    def value(self, marks: Mapping[str, float]) -> float:
        """The score of a picture, 0 to 1."""
        total = sum(weight * marks[name] for name, weight in self.marks.items())
        return total / (self.highest * sum(self.marks.values()))

    def weighted(self, groups: Sequence[Sequence[float]]) -> float:
        """The overall figure of all categories' scores, in their order."""
        weights = [weight for _, weight in self.categories.values()]
        return float(sum(weight * np.mean(values) for weight, values in zip(weights, groups, strict=True)))


LEGACY = Edition(
    "the original WISE",
    {"consistency": 7, "realism": 2, "aesthetic_quality": 1},
    2,
    {
        "culture": (400, 0.4),
        "time": (567, 0.167),
        "space": (700, 0.133),
        "biology": (800, 0.1),
        "physics": (900, 0.1),
        "chemistry": (1000, 0.1),
    },
)
VERIFIED = Edition(
    "WISE_Verified",
    {"score": 1},
    1,
    {
        "culture": (400, 0.4),
        "time": (520, 0.12),
        "space": (640, 0.12),
        "biology": (760, 0.12),
        "physics": (880, 0.12),
        "chemistry": (1000, 0.12),
    },
)
EDITIONS = (LEGACY, VERIFIED)


def marks_of(answer: str) -> dict[str, float] | None:
    """A judge's marks by their names; None where an edition's marks are not all there, or not in their range.

    As in the official scripts names may be bold and colons left out, and bare numbers on lines of their own will do:
    three for the original, one for WISE_Verified. What stands before the last </think> is no answer, with a <think> or,
    as some servers give it, without one; of a mark that is given twice the original's script takes the last,
    WISE_Verified's the first.
    """
    answer = answer.rpartition(THOUGHT)[2]
    found: dict[str, float] = {}
    for name, mark in NAMED.findall(answer):
        key = name.lower().replace(" ", "_")
        found[key] = found[key] if key == "score" and key in found else float(mark)
    if not found:
        alone = [float(mark) for mark in ALONE.findall(answer)]
        for edition in EDITIONS:
            if len(alone) == len(edition.marks):
                found = dict(zip(edition.marks, alone, strict=True))
    for edition in EDITIONS:
        if edition.marks.keys() <= found.keys():
            marks = {name: found[name] for name in edition.marks}
            return marks if max(marks.values()) <= edition.highest else None
    return None


def read_results(files: Files) -> tuple[Edition, dict[int, dict[str, float]], list[str]]:
    """(which edition it is, the marks of each prompt_id, a sentence for each line that could not be used).

    Raises:
        ValueError: there are no results, or they are of both editions.
    """
    judged: dict[int, dict[str, float]] = {}
    editions: list[Edition] = []
    unused: list[str] = []
    for file in _files(files):
        try:
            lines = file.read_text("utf-8-sig").split("\n")
        except (OSError, ValueError) as error:
            unused.append(f"{file.name} cannot be read: {error}")
            continue
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                edition, name, marks = _line(line)
                if name in judged:
                    raise ValueError(f"prompt_id {name} is judged already; the first judgement counts")
            except ValueError as error:
                unused.append(f"{file.name}, line {number}: {error}")
                continue
            editions.append(edition)
            judged[name] = marks
    if not judged:
        raise ValueError(f"the results have no judgement that can be read: {unused[0] if unused else 'no lines'}")
    if editions.count(editions[0]) != len(editions):
        raise ValueError(f"the results are of {LEGACY.title} and of {VERIFIED.title}; part them")
    return editions[0], judged, unused


def found_results(files: Files) -> list[Path]:
    """The files of marks in the output folder, of whatever judge."""
    return sorted({*files.out.glob(PATTERN), *files.out.glob(f"*/{PATTERN}")})


def _files(files: Files) -> list[Path]:
    if files.results and files.results.is_file():
        return [files.results]
    found = sorted(files.results.glob(PATTERN)) if files.results else []
    if not files.results:
        found = found_results(files)
    if not found:
        raise ValueError(f"{files.results or files.out} has no {PATTERN}; WISE's vllm_eval.py writes them")
    folders = sorted({file.parent.name for file in found})
    if len(folders) > 1:
        raise ValueError(f"{files.out} has results in {' and '.join(folders)}; say which of them are meant")
    return found


def _line(line: str) -> tuple[Edition, int, dict[str, float]]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    number = row.get("prompt_id") if isinstance(row, dict) else None
    if type(number) is not int:
        raise ValueError("no prompt_id")
    for edition in EDITIONS:
        if edition.marks.keys() <= row.keys():
            marks = {name: row[name] for name in edition.marks}
            for name, mark in marks.items():
                if type(mark) not in (int, float) or mark not in range(edition.highest + 1):
                    raise ValueError(f"{name} is {mark!r}, not 0 to {edition.highest}")
            return edition, number, {name: float(mark) for name, mark in marks.items()}
    raise ValueError("no marks of WISE's")
