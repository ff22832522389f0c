"""Runs beside each other, and beside the paper, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...files.writing import write_beside
from ..scores import Score, Unit
from .paper import PAPER, Paper
from .runs import Run, by_bench, row_names
from .words import INTERVALS, NONE, UNITS, about_paper, interval, lost, narrow, of_paper, value


def markdown(runs: Sequence[Run], titles: Mapping[str, str] | None = None) -> str:
    """A table for each bench: a row for each headline figure and each group, a column for the paper and for each run.

    Args:
        titles: what benches are called, by name; the paper's title or the bench's name where it has none.

    Raises:
        ValueError: there is no run, or two runs of a bench have figures in different units.
    """
    if not runs:
        raise ValueError("there is no run to make a table of; name a folder that `lightbagel bench score` has seen")
    tables = []
    for bench, of in by_bench(runs).items():
        paper = PAPER.get(bench)
        title = (titles or {}).get(bench) or (paper.title if paper else bench)
        tables.append("\n".join([f"### {escaped(title)}", "", *_rows(of, paper), "", *_below(of, paper)]))
    return "\n\n".join(tables) + "\n"


def write_table(path: Path, runs: Sequence[Run], titles: Mapping[str, str] | None = None) -> None:
    """Writes `markdown` to a file.

    Raises:
        ValueError: as `markdown`, or the file could not be written.
    """
    write_beside(path, markdown(runs, titles).encode("utf-8"))


def escaped(text: str) -> str:
    """Text on one line in which Markdown finds nothing to format, not even a column's end."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = re.sub(r"([\\`*{}\[\]<>|~#$&!]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(line.split()))
    return re.sub(r"\b(https?|www)(?=[:.])", r"\1\\", line)


def _rows(runs: Sequence[Run], paper: Paper | None) -> Iterator[str]:
    unit = runs[0].scores.unit
    heads = [UNITS[unit][0], *(["paper"] if paper else []), *(escaped(run.name) for run in runs)]
    yield f"| {' | '.join(heads)} |"
    yield f"| --- |{' ---: |' * (len(heads) - 1)}"
    overall, groups = row_names(runs, paper)
    for names, bold in ((overall, "**"), (groups, "")):
        for name in names:
            cells = [f"{bold}{escaped(name)}{bold}"]
            cells += [of_paper(paper, name)] if paper else []
            for run in runs:
                held = run.scores.overall if bold else run.scores.groups
                cells.append(_cell(held.get(name), unit, bold))
            yield f"| {' | '.join(cells)} |"


def _cell(score: Score | None, unit: Unit, bold: str) -> str:
    if score is None or not score.n:
        return NONE
    return f"{bold}{value(score, unit)}{bold} {interval(score, unit)} n = {score.n:,}"


def _below(runs: Sequence[Run], paper: Paper | None) -> Iterator[str]:
    yield f"In brackets {INTERVALS}, unless a note below says otherwise. n: pictures or samples that were judged."
    if paper:
        yield ""
        yield about_paper(paper)
    lines = []
    for run in runs:
        said = [f"{gone}." for gone in [lost(run.scores.missing, run.scores.refused)] if gone]
        if same := narrow(run.scores):
            said.append(f"No interval of {', '.join(same)}: no prompt differed from the others of its group.")
        lines += [f"- {escaped(run.name)}: {escaped(sentence)}" for sentence in (*said, *run.scores.notes)]
    yield from ["", *lines] if lines else []
