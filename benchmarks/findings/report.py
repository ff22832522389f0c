"""The tables and the figure of all runs, from their `scores.json` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev, variance

from scipy import stats

from .arms import BASE, arms

SCORES = "scores.json"
WHAT = ("edits", "prompts")
INK, DOT, PALE = "#222222", "#0072B2", "#999999"

Named = Mapping[str, Sequence["Run"]]


@dataclass(frozen=True)
class Run:
    """One run's answers: of each kind of edits and task of prompts, which came out right; of which edits what was named
    was done, and all else kept. steps: of its training. minutes: of training and scoring.
    """

    arm: str
    seed: int
    steps: int
    edits: Mapping[str, Sequence[bool]]
    done: Mapping[str, Sequence[bool]]
    kept: Mapping[str, Sequence[bool]]
    prompts: Mapping[str, Sequence[bool]]
    minutes: float

    def mean(self, what: str) -> float:
        """The mean share over the kinds or tasks."""
        return fmean(fmean(map(float, rows)) for rows in getattr(self, what).values())

    def count(self, what: str) -> int:
        return sum(map(len, getattr(self, what).values()))


def scored(out: Path) -> dict[str, list[Run]]:
    """All runs that are scored, by arm, question by question and the base first.

    Raises:
        ValueError: no run is scored, none of the base, or not all on one budget and on as many items.
    """
    runs = [Run(**json.loads(file.read_text("utf-8"))) for file in sorted(out.glob(f"*/{SCORES}"))]
    if not any(run.arm == BASE for run in runs):
        raise ValueError(f"{out} holds no run of {BASE} that is scored, and all others are compared with it")
    if len(budgets := {run.steps for run in runs}) > 1:
        raise ValueError(f"{out} holds runs of {', '.join(map(str, sorted(budgets)))} steps, which are not comparable")
    if len(asked := {(run.count("edits"), run.count("prompts")) for run in runs}) > 1:
        said = ", ".join(f"{edits} edits and {prompts} prompts" for edits, prompts in sorted(asked))
        raise ValueError(f"{out} holds runs that were scored on {said}, which are not comparable")
    named = {name: [run for run in runs if run.arm == name] for name in arms()}
    return {name: some for name, some in named.items() if some}


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half of its 95 % interval, by Student's t over the seeds; of one value infinitely wide."""
    if len(values) < 2:
        return values[0], float("inf")
    return fmean(values), float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))


def by_chance(named: Named, what: str) -> float | None:
    """How far apart, in points, two runs of one arm lie by their seeds alone, at most in 95 of 100 cases: by Student's
    t, from the spread of the seeds of all arms that have several, pooled; None where none has.
    """
    several = [[run.mean(what) for run in some] for some in named.values() if len(some) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return None
    pooled = sqrt(sum((len(values) - 1) * variance(values) for values in several) / freedom)
    return float(stats.t.ppf(0.975, freedom)) * sqrt(2) * pooled * 100


def against_base(some: Sequence[Run], base: Sequence[Run], what: str) -> list[float]:
    """How far each run is above the base's run of the same seed, in points."""
    same = {run.seed: run.mean(what) for run in base}
    return [(run.mean(what) - same[run.seed]) * 100 for run in some if run.seed in same]


def report(out: Path, figures: Path) -> str:
    """The tables in Markdown, one for each question and two of all kinds; writes `findings-edits.png` and
    `findings-prompts.png` into the folder of figures.

    Raises:
        ValueError: as `scored`.
    """
    named = scored(out)
    for what in WHAT:
        _figure(figures / f"findings-{what}.png", named, what)
    questions = groupby((name for name in named if name != BASE), key=lambda name: arms()[name].question)
    parts = [f"{question}\n\n{_table(named, [BASE, *names])}" for question, names in questions]
    parts += [f"{what} by kind\n\n{_by_kind(named, what)}" for what in WHAT]
    runs = [run for some in named.values() for run in some]
    hours = sum(run.minutes for run in runs) / 60
    whole = f"{len(runs)} runs of {runs[0].steps} steps, {hours:.1f} hours"
    if all(alone := [by_chance(named, what) for what in WHAT]):
        edits, prompts = alone
        whole += f"; seeds alone set two of them {edits:.1f} points of the edits and {prompts:.1f} of the prompts apart"
    return "\n\n".join([*parts, whole])


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _table(named: Named, names: Sequence[str]) -> str:
    against = f"against {BASE}, points"
    head = ["arm", "seeds", "edits right", against, "done; kept", "prompts right", against]
    return _markdown([head, *(_row(name, named[name], named[BASE]) for name in names)])


def _row(name: str, some: Sequence[Run], base: Sequence[Run]) -> list[str]:
    """An arm's line: its shares seed by seed, and how it differs from the base of the same seeds."""
    cells = [name, ", ".join(str(run.seed) for run in some)]
    for what in WHAT:
        n = sum(run.count(what) for run in some)
        cells.append(f"{'; '.join(f'{run.mean(what):.3f}' for run in some)} (n {n:,})")
        pairs = against_base(some, base, what)
        if name == BASE or not pairs:
            cells.append("")
        else:
            mean, half = over_seeds(pairs)
            cells.append(f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]" if len(pairs) > 1 else f"{mean:+.1f}")
        if what == "edits":
            cells.append("; ".join(f"{fmean(run.mean(part) for run in some):.3f}" for part in ("done", "kept")))
    return cells


def _by_kind(named: Named, what: str) -> str:
    """The shares of every kind or task, pooled over an arm's seeds, of the arms of several seeds."""
    several = {name: some for name, some in named.items() if len(some) > 1 or name == BASE}
    kinds = getattr(several[BASE][0], what)
    lines = [["", *several]]
    for kind in kinds:
        pooled = [[right for run in some for right in getattr(run, what)[kind]] for some in several.values()]
        lines.append([kind, *(f"{fmean(map(float, rows)):.2f} (n {len(rows)})" for rows in pooled)])
    return _markdown(lines)


def _figure(file: Path, named: Named, what: str) -> None:
    """How far each run is from the base's of the same seed: a dot for each, and of several their mean with its
    interval. The base's own dots are about its own mean. A band: how far seeds alone set one run from another.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.34 * len(named)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=PALE, linewidth=1)
    if alone := by_chance(named, what):
        axis.axvspan(-alone, alone, color=PALE, alpha=0.15, linewidth=0)
    labels, last = [], ""
    for place, (name, some) in enumerate(named.items()):
        question = arms()[name].question
        if question != last:
            axis.axhline(place - 0.5, color=PALE, linewidth=0.5, linestyle=":")
            last = question
        labels.append(f"{question}: {name}" if question else f"{name}, each about their mean")
        if name == BASE:
            mean = fmean(run.mean(what) for run in some)
            axis.plot(
                [(run.mean(what) - mean) * 100 for run in some], [place] * len(some), "o", color=PALE, markersize=5
            )
            continue
        points = against_base(some, named[BASE], what)
        axis.plot(points, [place] * len(points), "o", color=DOT, markersize=5, alpha=0.6)
        if len(points) > 1:
            mean, half = over_seeds(points)
            axis.errorbar(mean, place, xerr=half, fmt="|", color=INK, capsize=3, markersize=10)
    axis.set_yticks(range(len(named)), labels, fontsize=9)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    said = "95 %: bar, over an arm's seeds; grey, what seeds alone do to one run"
    axis.set_xlabel(f"{what} right, against {BASE} of the same seed, points\n({said})", fontsize=9)
    figure.savefig(file, dpi=130)
