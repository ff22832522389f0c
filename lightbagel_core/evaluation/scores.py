"""A bench's figures: each with its interval and the number of things it is made of; and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ..files.file_names import is_plain

FILE = "scores.json"
RUN_FILE = "run.json"  # beside it, what the pictures were made with: written by drawing/run_file.py
WORST = 24  # items that the scores name for the contact sheet
MOST = 1e6  # no figure of a bench lies further from 0
MOST_COUNTED = 10**9
ROUNDING = 1e-6  # by which a figure may lie outside its interval
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
        """Raises ValueError when a field is missing, unknown, of another kind than it should be, or absurd."""
        try:
            given = dict(_fields(cls, data, "the whole"))
            for name in ("overall", "groups"):
                if not isinstance(given[name], Mapping):
                    raise TypeError(f"'{name}' is no object of figures by name")
                given[name] = {key: Score(**_fields(Score, of, f"{key!r}")) for key, of in given[name].items()}
            given["notes"] = _texts(given.get("notes", []))
            worst = given.get("worst", [])
            if not isinstance(worst, (list, tuple)):
                raise TypeError("'worst' is no list of items")
            rows = [_fields(Worst, row, "an item of 'worst'") for row in worst]
            given["worst"] = tuple(Worst(**{**row, "pictures": _texts(row["pictures"])}) for row in rows)
            scores = cls(**given)
            _check(scores)
        except (TypeError, ValueError) as error:
            raise ValueError(f"these are no scores of a bench: {error}") from None
        return scores


def _fields(of: type, given: Any, what: str) -> Mapping[str, Any]:
    """What a file gives for the fields of a class; TypeError when some that it needs are missing, or others there."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} is no object of fields")
    known = {field.name: field.default is MISSING for field in fields(of)}
    lacking = [name for name, needed in known.items() if needed and name not in given]
    other = [str(name) for name in given if name not in known]
    if lacking or other:
        wrong = f"has no {', '.join(lacking)}" if lacking else f"has a field {other[0]!r}, which nobody knows"
        raise TypeError(f"{what} {wrong}")
    return given


def _texts(given: Any) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(text, str) for text in given):
        raise TypeError(f"{given!r} is no list of texts")
    return tuple(given)


def _check(scores: Scores) -> None:
    """Raises TypeError at the first field that a damaged or foreign file filled with another kind of thing, ValueError
    at the first that no bench can have given.
    """
    texts = [scores.bench, *(text for row in scores.worst for text in (row.id, row.prompt, row.reason))]
    figures = [*scores.overall.values(), *scores.groups.values()]
    numbers = [*(end for f in figures for end in (f.value, f.low, f.high)), *(row.score for row in scores.worst)]
    counts = [*(figure.n for figure in figures), scores.missing, scores.refused]
    if scores.unit not in get_args(Unit):
        raise TypeError(f"the unit {scores.unit!r} is none of {', '.join(get_args(Unit))}")
    for values, kinds, what in ((texts, str, "text"), (numbers, (int, float), "number"), (counts, int, "count")):
        for value in values:
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise TypeError(f"{value!r} is no {what}")
    if not all(abs(number) <= MOST for number in numbers):  # nor is NaN
        raise ValueError(f"a figure is no number from {-MOST:,.0f} to {MOST:,.0f}")
    if not all(0 <= count <= MOST_COUNTED for count in counts):
        raise ValueError(f"a count lies outside 0 to {MOST_COUNTED:,}")
    if not is_plain(scores.bench):
        raise ValueError(f"{scores.bench!r} cannot be the name of a bench")
    if not scores.overall:
        raise ValueError("there is no headline figure")
    for name, one in (*scores.overall.items(), *scores.groups.items()):
        if not one.low - ROUNDING <= one.value <= one.high + ROUNDING:
            raise ValueError(f"the interval of {name!r}, {one.low:g} to {one.high:g}, is not around {one.value:g}")


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
    except RecursionError:
        raise ValueError(f"{file} is damaged: too much in each other; run `lightbagel bench score` again") from None
    try:
        return Scores.from_dict(data)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}; run `lightbagel bench score` again") from None
