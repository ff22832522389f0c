"""One panel: dots, intervals and the paper's mark lie where the figures are."""

from __future__ import annotations

import pytest
from invented import geneval, imgedit, run

from lightbagel_core.evaluation.scores import Score
from lightbagel_core.evaluation.show.figure_panel import Panel, row_height
from lightbagel_core.evaluation.show.paper import IMGEDIT, Paper
from lightbagel_core.evaluation.show.runs import row_names

pytest.importorskip("matplotlib")
STYLES = {"a": ("#0072B2", "o"), "b": ("#D55E00", "s")}


def drawn(runs, paper=None):
    """(panel, its axes)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8))
    panel = Panel("Title", runs, paper, *row_names(runs, paper), STYLES)
    panel.draw(figure, 0.4, 7.8, 7.2)
    (axes,) = figure.axes
    return panel, axes


def lines(axes, colour):
    return [[*zip(*line.get_data(), strict=True)] for line in axes.lines if line.get_color() == colour]


def test_dots_and_intervals_lie_where_the_figures_are():
    _, axes = drawn([run("a", geneval("own"))])
    points = [tuple(map(tuple, line)) for line in lines(axes, "#0072B2")]
    assert ((0.5, 0.5), (0.65, 0.5)) in points
    assert ((0.575, 0.5),) in points
    assert len(points) == 2 * 7


def test_runs_stand_below_each_other_within_their_row():
    runs = [run("a", geneval("own")), run("b", geneval("own"))]
    _, axes = drawn(runs)
    first, second = (lines(axes, STYLES[name][0])[1][0][1] for name in ("a", "b"))
    assert 0 < first < 0.5 < second < 1
    assert first + second == pytest.approx(1)


def test_the_papers_mark_lies_where_its_figure_is():
    _, axes = drawn([run("a", imgedit())], IMGEDIT)
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "|"]
    assert marks == pytest.approx([*IMGEDIT.overall.values(), *IMGEDIT.groups.values()])
    assert axes.get_xlim() == pytest.approx((0.92, 5.08))


def test_a_figure_without_an_interval_is_hollow():
    scores = geneval("own")
    scores.groups["counting"] = Score(0.5, 0.5, 0.5, 3)
    _, axes = drawn([run("a", scores)])
    hollow = [line.get_xdata()[0] for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert hollow == [0.5]


def test_a_figure_of_nothing_has_no_dot():
    scores = geneval("own")
    scores.groups["counting"] = Score(0, 0, 1, 0)
    _, axes = drawn([run("a", scores)])
    assert len(lines(axes, "#0072B2")) == 2 * 6
    assert "–" in [text.get_text() for text in axes.texts]


def test_headline_figures_are_bold_and_long_names_are_broken():
    paper = Paper("T", "share", {}, {"counting": 0.5}, aliases={"counting": "how many of a thing " * 4})
    panel, axes = drawn([run("a", geneval("own"))], paper)
    labels = {text.get_text(): text for text in axes.get_yticklabels()}
    assert labels["mean of tasks"].get_fontweight() == "bold"
    assert labels["color attr"].get_fontweight() == "normal"
    (long,) = [text for text in labels if text.startswith("counting (")]
    assert long.count("\n") == 1
    assert max(map(len, long.split("\n"))) <= 27
    assert panel.height == pytest.approx(0.72 + 0.55 + 7 * row_height(1))


def test_rows_grow_with_their_runs():
    heights = [row_height(runs) for runs in range(1, 7)]
    assert heights == sorted(heights)
    assert heights[3] > 4 * 0.19
