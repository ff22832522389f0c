"""A bench's figures: each with its interval and the number of things it is made of; and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

FILE = "scores.json"
Unit = Literal["share", "0-10", "1-5", "0-100"]


@dataclass(frozen=True)
class Score:
    """One figure. value, low, high: the figure and its 95 % interval, in the bench's own unit. n: how many judged
    things (pictures, samples) it is made of.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Worst:
    """One item for the contact sheet: its pictures below the run's folder, sources first, and what went wrong."""

    id: str
    prompt: str
    score: float
    pictures: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class Scores:
    """What a run reached in a bench.

    unit: of every figure: a share of 1, points of 10, of 5, of 100.
    overall: the bench's headline figures by name, the first of them the one that is compared.
    groups: figures of its tasks, types or categories.
    missing: pictures that were asked for and are not there; each counts as wrong, with the lowest score.
    refused: judgements that a judge refused or that could not be read; counted with the lowest score, never dropped.
    notes: sentences to print below the figures.
    worst: the items with the lowest scores, the lowest first.
    """

    bench: str
    unit: Unit
    overall: Mapping[str, Score]
    groups: Mapping[str, Score]
    missing: int = 0
    refused: int = 0
    notes: Sequence[str] = ()
    worst: Sequence[Worst] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scores:
        """Raises ValueError when a field is missing, unknown, or of another kind than it should be."""
        try:
            given = dict(data)
            for name in ("overall", "groups"):
                given[name] = {key: Score(**score) for key, score in given[name].items()}
            given["notes"] = _texts(given.get("notes", []))
            given["worst"] = tuple(
                Worst(**row | {"pictures": _texts(row["pictures"])}) for row in given.get("worst", [])
            )
            scores = cls(**given)
            _check(scores)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"these are no scores of a bench: {error}") from None
        return scores


def _texts(given: Any) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(text, str) for text in given):
        raise TypeError(f"{given!r} is no list of texts")
    return tuple(given)


def _check(scores: Scores) -> None:
    """Raises TypeError at the first field that a damaged or foreign file filled with another kind of thing."""
    figures = [*scores.overall.values(), *scores.groups.values()]
    texts = [scores.bench, *(text for row in scores.worst for text in (row.id, row.prompt, row.reason))]
    numbers = [*(end for f in figures for end in (f.value, f.low, f.high)), *(row.score for row in scores.worst)]
    counts = [*(figure.n for figure in figures), scores.missing, scores.refused]
    if scores.unit not in get_args(Unit):
        raise TypeError(f"the unit {scores.unit!r} is none of {', '.join(get_args(Unit))}")
    for values, kinds, what in ((texts, str, "text"), (numbers, (int, float), "number"), (counts, int, "count")):
        for value in values:
            if not isinstance(value, kinds) or (isinstance(value, float) and not isfinite(value)):
                raise TypeError(f"{value!r} is no {what}")


def read_scores(folder: Path) -> Scores:
    """The scores of a run's folder.

    Raises:
        ValueError: there are none, or the file is damaged.
    """
    file = folder / FILE
    try:
        data = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {FILE}; run `lightbagel bench score` on it first") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}; run `lightbagel bench score` again") from None
    try:
        return Scores.from_dict(data)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; run `lightbagel bench score` again") from None
