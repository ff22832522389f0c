"""The tables and the figure of all runs, from their `scores.json` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from scipy import stats

from .arms import arms

BASE = "both"  # what every other arm is compared with
FIGURE = "findings.png"
WHAT = ("edits", "prompts")
INK, DOT = "#222222", "#0072B2"


@dataclass(frozen=True)
class Run:
    """One run's shares: of each kind of edits and task of prompts, which came out right."""

    arm: str
    seed: int
    edits: Mapping[str, Sequence[bool]]
    prompts: Mapping[str, Sequence[bool]]
    minutes: float

    def mean(self, what: str) -> float:
        """The mean share over the kinds or tasks."""
        return fmean(fmean(map(float, rows)) for rows in getattr(self, what).values())

    def count(self, what: str) -> int:
        return sum(map(len, getattr(self, what).values()))


def runs(out: Path) -> list[Run]:
    """All runs that are scored."""
    return [Run(**json.loads(file.read_text("utf-8"))) for file in sorted(out.glob("*/scores.json"))]


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half of its 95 % interval, by Student's t over the seeds; of one value infinitely wide."""
    if len(values) < 2:
        return values[0], float("inf")
    return fmean(values), float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))


def row(name: str, found: Sequence[Run], base: Mapping[int, Run]) -> list[str]:
    """An arm's line: its shares seed by seed, and how it differs from the base of the same seeds, in points."""
    cells = [name, ", ".join(str(run.seed) for run in found)]
    for what in WHAT:
        shares = [run.mean(what) for run in found]
        n = sum(run.count(what) for run in found)
        cells.append(f"{' '.join(f'{share:.3f}' for share in shares)} (n {n})")
        pairs = [(run.mean(what) - base[run.seed].mean(what)) * 100 for run in found if run.seed in base]
        if name == BASE or not pairs:
            cells.append("")
            continue
        mean, half = over_seeds(pairs)
        interval = f"[{mean - half:+.1f}, {mean + half:+.1f}]" if len(pairs) > 1 else "(one seed: no interval)"
        cells.append(f"{mean:+.1f} {interval}")
    return cells


def report(out: Path) -> str:
    """The table in Markdown; writes the figure beside the runs.

    Raises:
        ValueError: no run is scored.
    """
    found = runs(out)
    if not found:
        raise ValueError(f"{out} holds no run that is scored")
    named = {name: [run for run in found if run.arm == name] for name in arms()}
    named = {name: some for name, some in named.items() if some}
    base = {run.seed: run for run in named.get(BASE, ())}
    head = ["arm", "seeds", "edits right", "against both, points", "prompts right", "against both, points"]
    lines = [head, ["---"] * len(head), *(row(name, some, base) for name, some in named.items())]
    _figure(out / FIGURE, named)
    hours = sum(run.minutes for run in found) / 60
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{len(found)} runs, {hours:.1f} hours."


def _figure(file: Path, named: Mapping[str, Sequence[Run]]) -> None:
    """A dot for each run, and for several seeds their mean with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + 0.34 * len(named)), layout="constrained")
    axes = figure.subplots(1, len(WHAT), sharey=True)
    for what, axis in zip(WHAT, axes, strict=True):
        for place, some in enumerate(named.values()):
            shares = [run.mean(what) for run in some]
            axis.plot(shares, [place] * len(shares), "o", color=DOT, markersize=4, alpha=0.6)
            if len(shares) > 1:
                mean, half = over_seeds(shares)
                axis.errorbar(mean, place, xerr=half, fmt="|", color=INK, capsize=3, markersize=10)
        axis.set_xlim(0, 1)
        axis.set_title(f"{what} right", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(named)), [f"{name} (n {len(some)})" for name, some in named.items()], fontsize=9)
    axes[0].invert_yaxis()
    figure.savefig(file, dpi=150)
