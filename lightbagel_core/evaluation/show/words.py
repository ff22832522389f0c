"""How figures are written in tables and figures."""

from __future__ import annotations

from collections.abc import Mapping

from ..scores import Score, Scores, Unit
from .paper import SOURCE, Paper

# Of a unit: what it is called, its lowest and highest figure, decimals.
UNITS: Mapping[Unit, tuple[str, float, float, int]] = {
    "share": ("share, 0 to 1", 0, 1, 3),
    "0-10": ("points, 0 to 10", 0, 10, 2),
    "1-5": ("points, 1 to 5", 1, 5, 2),
    "0-100": ("points, 0 to 100", 0, 100, 1),
}
INTERVALS = "95 % intervals: Wilson's or, of means, the bootstrap's over prompts"
NONE = "–"
NO_WIDTH = 1e-9  # an interval this narrow is none


def value(score: Score | None, unit: Unit) -> str:
    """A figure alone: 0.853; a dash where there is none, or where it is made of nothing."""
    return NONE if score is None or not score.n else f"{score.value:.{UNITS[unit][3]}f}"


def interval(score: Score, unit: Unit) -> str:
    """A figure's interval: [0.838, 0.867]; a dash in the brackets where it has none."""
    if not has_interval(score):
        return f"[{NONE}]"
    digits = UNITS[unit][3]
    return f"[{score.low:.{digits}f}, {score.high:.{digits}f}]"


def has_interval(score: Score) -> bool:
    """Whether a figure has an interval. The bootstrap gives one of no width, which looks exact and says nothing, where
    no prompt differs from the others of its group.
    """
    return score.high - score.low > NO_WIDTH


def of_paper(paper: Paper | None, name: str) -> str:
    """The paper's figure as printed there, or marked as computed; a dash where it has none."""
    figure = paper.get(name) if paper else None
    if paper is None or figure is None:
        return NONE
    printed = f"{figure:g}" if paper.unit == "0-100" else f"{figure:.2f}"
    return f"{printed} (computed)" if name in paper.computed else printed


def about_paper(paper: Paper) -> str:
    """Sentences that say where the paper's figures come from."""
    said = [f"The paper's figures are those of {SOURCE}, which gives no intervals."]
    said += [f"'{name}' is not printed there but computed from its parts." for name in sorted(paper.computed)]
    said += [f"What is '{name}' here is '{alias}' there." for name, alias in paper.aliases.items()]
    return " ".join([*said, *([paper.note] if paper.note else [])])


def lost(missing: int, refused: int) -> str:
    """Says how many pictures were missing and how many judgements refused; nothing where none were."""
    parts = [f"{missing:,} {'picture' if missing == 1 else 'pictures'} missing"] if missing else []
    parts += [f"{refused:,} {'judgement' if refused == 1 else 'judgements'} refused or unreadable"] if refused else []
    return f"{' and '.join(parts)}, counted with the lowest score" if parts else ""


def narrow(scores: Scores) -> list[str]:
    """Names of the figures that have no interval."""
    figures = {**scores.groups, **scores.overall}
    return [name for name, score in figures.items() if score.n and not has_interval(score)]
