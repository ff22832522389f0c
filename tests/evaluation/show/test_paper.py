"""The paper's figures agree with each other as far as they can be checked."""

from __future__ import annotations

import math

import pytest

from lightbagel_core.evaluation.benches import gedit
from lightbagel_core.evaluation.registry import bench_named
from lightbagel_core.evaluation.show.paper import (
    DPG,
    GEDIT,
    GENEVAL,
    IMGEDIT,
    IMGEDIT_ITEMS,
    IMGEDIT_TYPES,
    PAPER,
    by_sample,
)
from lightbagel_core.evaluation.show.words import UNITS


def test_geneval_is_the_mean_of_its_six_tasks():
    assert len(GENEVAL.groups) == 6
    assert sum(GENEVAL.groups.values()) / 6 == pytest.approx(GENEVAL.overall["mean of tasks"], abs=0.005)


def test_imgedit_is_the_mean_of_its_nine_types():
    assert len(IMGEDIT.groups) == 9
    assert sum(IMGEDIT.groups.values()) / 9 == pytest.approx(3.7733333, abs=1e-6)
    assert IMGEDIT.overall["mean of types"] == 3.77


def test_imgedit_by_sample_is_computed_and_said_to_be():
    """One item after the other, each with its type's mean: 3.72 where the paper prints 3.77."""
    assert sum(IMGEDIT_ITEMS.values()) == 737
    values = [IMGEDIT_TYPES[name] for name, count in IMGEDIT_ITEMS.items() for _ in range(count)]
    assert IMGEDIT.overall["mean of samples"] == pytest.approx(math.fsum(values) / 737, abs=1e-9)
    assert f"{IMGEDIT.overall['mean of samples']:.2f}" == "3.72"
    assert IMGEDIT.computed == {"mean of samples"}
    assert by_sample({"a": 1.0, "b": 4.0}, {"a": 2, "b": 1}) == 2


def test_gedit_is_no_root_of_its_means():
    assert math.sqrt(GEDIT.overall["SC"] * GEDIT.overall["PQ"]) == pytest.approx(6.81, abs=0.005)
    assert GEDIT.overall["O"] == 6.06


def test_dpg_is_below_its_categories_because_of_dependent_questions():
    assert DPG.overall["score"] < min(DPG.groups.values())


def test_every_figure_lies_in_its_unit():
    for paper in PAPER.values():
        _, low, high, _ = UNITS[paper.unit]
        figures = {**paper.overall, **paper.groups}
        assert figures
        assert all(low <= value <= high for value in figures.values()), paper.title
        assert set(figures) >= {*paper.computed, *paper.aliases}


def test_a_figure_is_found_by_its_name():
    assert GENEVAL.get("mean of tasks") == 0.91
    assert GENEVAL.get("counting") == 0.93
    assert GENEVAL.get("juggling") is None
    assert IMGEDIT.get("compose") == 3.93
    assert IMGEDIT.aliases["compose"] == "hybrid"


def test_benches_of_the_paper_have_its_names():
    assert set(PAPER) == {"geneval", "dpg", "gedit", "imgedit"}
    assert {name: paper.title for name, paper in PAPER.items()} == {name: bench_named(name).title for name in PAPER}
    assert tuple(GEDIT.overall) == gedit.FIGURES
