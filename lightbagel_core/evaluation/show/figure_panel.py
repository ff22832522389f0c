"""One bench's panel in a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .fonts import cut
from .paper import Paper
from .runs import Run
from .words import NONE, UNITS, has_interval, lost, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE, LINE, BAND = "#1b1b1b", "#6a6a6a", "#e2e2e2", "#f3f4f6"
HEAD, FOOT = 0.72, 0.55  # inches above and below the rows
VALUE, COUNT, PRINTED = 0.62, 0.62, 0.55  # widths of the columns of numbers
PAPER_MARK: dict[str, Any] = {
    "color": INK,
    "marker": "|",
    "markersize": 13,
    "markeredgewidth": 2.4,
    "linestyle": "none",
}


def row_height(runs: int) -> float:
    """Inches of a row that shows so many runs."""
    return max(0.34, 0.19 * runs + 0.13)


@dataclass(frozen=True)
class Panel:
    """A bench's runs as dots with intervals. overall, groups: names of its rows.

    styles: (colour, marker) of runs. finer: how many figures are left to the table.
    """

    title: str
    runs: Sequence[Run]
    paper: Paper | None
    overall: Sequence[str]
    groups: Sequence[str]
    styles: Mapping[str, tuple[str, str]]
    finer: int = 0

    @property
    def height(self) -> float:
        """In inches, with head and foot."""
        return HEAD + FOOT + row_height(len(self.runs)) * len(self.rows)

    @property
    def rows(self) -> list[tuple[str, bool]]:
        """(name, whether it is a headline figure) of each row."""
        return [*((name, True) for name in self.overall), *((name, False) for name in self.groups)]

    def draw(self, figure: Figure, left: float, top: float, width: float) -> None:
        """Draws the panel into a figure, its upper left corner at (left, top) inches from the lower left one."""
        total, tall = (float(side) for side in figure.get_size_inches())
        labels = [self._label(name) for name, _ in self.rows]
        gutter = min(2.5, 0.35 + 0.083 * max((len(line) for text in labels for line in text.split("\n")), default=0))
        numbers = VALUE + COUNT + (PRINTED if self.paper else 0)
        inner, rows = width - gutter - numbers, row_height(len(self.runs)) * len(self.rows)
        place = (left + gutter, top - HEAD - rows, inner, rows)
        axes = figure.add_axes((place[0] / total, place[1] / tall, place[2] / total, place[3] / tall))
        figure.text(left / total, (top - 0.16) / tall, self.title, size=13, weight="bold", va="center")
        figure.text(left / total, (top - 0.4) / tall, self._subtitle(), size=9, color=PALE, va="center")
        self._frame(axes, labels, gutter / inner, (numbers + 0.08) / inner)
        for index, row in enumerate(self.rows):
            self._row(axes, index, *row, inner)
        for shift, word in ((VALUE + COUNT, "n"), *([(VALUE + COUNT + PRINTED, "paper")] if self.paper else [])):
            axes.text(1 + shift / inner, -0.12 / row_height(len(self.runs)), word, size=8, color=PALE, **_beside(axes))

    def _label(self, name: str) -> str:
        alias = self.paper.aliases.get(name) if self.paper else None
        text = name.replace("_", " ") + (f" (paper: {alias})" if alias else "")
        return "\n".join(textwrap.wrap(cut(text, 52), 27)[:2])

    def _subtitle(self) -> str:
        gone = lost(sum(run.scores.missing for run in self.runs), sum(run.scores.refused for run in self.runs))
        finer = f"{self.finer} finer figures stand in the table" if self.finer else ""
        return " · ".join(filter(None, [UNITS[self.runs[0].scores.unit][0], gone, finer]))

    def _frame(self, axes: Axes, labels: Sequence[str], gutter: float, numbers: float) -> None:
        """Scale, grid, names of the rows, and the band behind the headline figures."""
        from matplotlib.patches import Rectangle

        _, low, high, _ = UNITS[self.runs[0].scores.unit]
        pad = 0.02 * (high - low)
        axes.set(xlim=(low - pad, high + pad), ylim=(len(labels), 0))
        axes.set_xticks([low + (high - low) * i / (4 if low else 5) for i in range(5 if low else 6)])
        axes.set_yticks([i + 0.5 for i in range(len(labels))], labels, size=10)
        for text, (_, headline) in zip(axes.get_yticklabels(), self.rows, strict=True):
            text.set(fontweight="bold" if headline else "normal", fontsize=8.2 if "\n" in text.get_text() else 10)
        axes.tick_params(length=0, labelcolor=INK, pad=8)
        axes.tick_params(axis="x", labelsize=8.5, labelcolor=PALE, pad=5)
        axes.grid(axis="x", color=LINE, linewidth=0.9)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        if self.overall:
            band = Rectangle(
                (-gutter, 0), 1 + gutter + numbers, len(self.overall), transform=axes.get_yaxis_transform(), color=BAND
            )
            band.set(clip_on=False, zorder=-5)
            axes.add_patch(band)
        for row in range(len(self.overall) + 1, len(labels)):
            axes.axhline(row, color=LINE, linewidth=0.6)

    def _row(self, axes: Axes, index: int, name: str, headline: bool, inner: float) -> None:
        """The runs' dots one below the other, the paper's mark over them, the numbers beside them."""
        unit = self.runs[0].scores.unit
        share = 0.19 / row_height(len(self.runs))
        weight = "bold" if headline else "normal"
        for place, run in enumerate(self.runs):
            colour, marker = self.styles[run.name]
            y = index + 0.5 + (place - (len(self.runs) - 1) / 2) * share
            score = (run.scores.overall if headline else run.scores.groups).get(name)
            if score is not None and score.n:
                known = has_interval(score)
                axes.plot(
                    [score.low, score.high], [y, y], color=colour, linewidth=3.2, alpha=0.45, solid_capstyle="butt"
                )
                axes.plot(
                    score.value,
                    y,
                    marker,
                    color=colour,
                    markersize=7.4 if marker in "^v" else 6.2,
                    markerfacecolor=colour if known else "white",
                    markeredgecolor="white" if known else colour,
                    markeredgewidth=0.8 if known else 1.6,
                    clip_on=False,
                )
            ink = colour if len(self.runs) > 1 else INK
            axes.text(1 + VALUE / inner, y, value(score, unit), size=9, color=ink, weight=weight, **_beside(axes))
            count = f"{score.n:,}" if score is not None else NONE
            axes.text(1 + (VALUE + COUNT) / inner, y, count, size=8, color=PALE, **_beside(axes))
        figure = self.paper.get(name) if self.paper else None
        if self.paper and figure is not None:
            axes.plot(figure, index + 0.5, **PAPER_MARK | {"markersize": 72 * 0.19 * len(self.runs) + 3}, zorder=1.5)
            printed = (f"{figure:g}" if unit == "0-100" else f"{figure:.2f}") + (
                "*" if name in self.paper.computed else ""
            )
            x = 1 + (VALUE + COUNT + PRINTED) / inner
            axes.text(x, index + 0.5, printed, size=9, weight=weight, **_beside(axes))


def _beside(axes: Axes) -> dict[str, Any]:
    """How text stands right of the scale: x as a share of its width, y a row."""
    return {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center", "clip_on": False}
