"""How figures are written."""

from __future__ import annotations

import pytest
from invented import geneval

from lightbagel_core.evaluation.scores import Score
from lightbagel_core.evaluation.show.paper import DPG, GENEVAL, IMGEDIT
from lightbagel_core.evaluation.show.words import about_paper, interval, lost, narrow, of_paper, value


@pytest.mark.parametrize(
    ("unit", "words"), [("share", "0.854 [0.840, 1.000]"), ("1-5", "0.85 [0.84, 1.00]"), ("0-100", "0.9 [0.8, 1.0]")]
)
def test_a_figure_with_its_interval(unit, words):
    score = Score(0.854, 0.84, 1.0, 10)
    assert f"{value(score, unit)} {interval(score, unit)}" == words


def test_what_is_made_of_nothing_is_a_dash():
    assert value(None, "share") == value(Score(0, 0, 1, 0), "share") == "–"
    assert value(Score(0, 0, 1, 1), "share") == "0.000"


def test_the_papers_figures_are_as_it_prints_them():
    assert of_paper(GENEVAL, "single_object") == "1.00"
    assert of_paper(DPG, "score") == "82.16"
    assert of_paper(DPG, "global") == "87.1"
    assert of_paper(IMGEDIT, "mean of samples") == "3.72 (computed)"
    assert of_paper(GENEVAL, "juggling") == of_paper(None, "counting") == "–"


def test_where_the_papers_figures_come_from_is_said():
    said = about_paper(IMGEDIT)
    assert "arXiv 2510.22946" in said
    assert "'mean of samples' is not printed there" in said
    assert "'compose' here is 'hybrid' there" in said


def test_what_is_lost_is_counted():
    assert lost(0, 0) == ""
    assert lost(1, 0) == "1 picture missing, counted with the lowest score"
    assert lost(1200, 2) == (
        "1,200 pictures missing and 2 judgements refused or unreadable, counted with the lowest score"
    )


def test_an_interval_of_no_width_is_noticed():
    scores = geneval()
    assert narrow(scores) == []
    scores.overall["mean of tasks"] = Score(1, 1, 1, 9)
    scores.overall["none"] = Score(0, 0, 0, 0)
    assert narrow(scores) == ["mean of tasks"]
    assert interval(Score(1, 1, 1, 9), "share") == "[–]"
    assert interval(Score(1, 0.99999, 1, 9), "share") == "[1.000, 1.000]"
