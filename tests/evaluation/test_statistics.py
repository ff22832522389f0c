"""Intervals against closed forms, another library, and simulation: do they hold the truth as often as they say?"""

from __future__ import annotations

import time

import numpy as np
import pytest

from lightbagel_core.evaluation import statistics
from lightbagel_core.evaluation.statistics import (
    bootstrap,
    design_effect,
    mean_of_all,
    mean_of_means,
    wilson,
    wilson_of_clusters,
)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 10), (1, 553), (2012, 2212)])
def test_wilson_is_scipys(right, n):
    stats = pytest.importorskip("scipy.stats")
    interval = stats.binomtest(right, n).proportion_ci(method="wilson")
    score = wilson(right, n)
    assert (score.value, score.n) == (right / n, n)
    assert (score.low, score.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_wilson_solves_its_equation():
    """Its ends are the shares p from which right / n lies z standard errors away: (p' - p)^2 = z^2 p (1 - p) / n."""
    score = wilson(80, 100)
    for p in (score.low, score.high):
        assert (0.8 - p) ** 2 == pytest.approx(1.959963984540054**2 * p * (1 - p) / 100, rel=1e-12)


def test_wilson_stays_within_0_and_1_and_holds_the_share():
    for n in (1, 3, 10, 1000):
        for right in {0, 1, n // 2, n}:
            score = wilson(right, n)
            assert 0 <= score.low <= score.value <= score.high <= 1
            assert score.high > score.low
    assert wilson(0, 20).low == 0
    assert wilson(20, 20).high == 1


def test_nothing_says_nothing():
    score = wilson(0, 0)
    assert (score.value, score.low, score.high, score.n) == (0, 0, 1, 0)
    for groups in ({}, {"a": []}, {"a": [[], []]}):
        score = bootstrap(groups, mean_of_all)
        assert (score.value, score.low, score.high, score.n) == (0, 0, 0, 0)


@pytest.mark.parametrize(("right", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_what_is_no_share_is_refused(right, n):
    with pytest.raises(ValueError, match=f"{right} of {n} is no share"):
        wilson(right, n)


def test_the_two_means():
    groups = {"many": [[1.0], [1.0], [1.0], [0.0]], "few": [[0.0, 1.0]], "none": [[]]}
    of_all, of_means = bootstrap(groups, mean_of_all), bootstrap(groups, mean_of_means)
    assert of_all.value == pytest.approx(4 / 6)
    assert of_means.value == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert of_all.n == of_means.n == 6
    for score in (of_all, of_means):
        assert score.low <= score.value <= score.high


def test_the_bootstrap_is_the_normal_interval_of_many_values():
    rng = np.random.default_rng(1)
    values = rng.normal(5, 2, 1000)
    score = bootstrap({"all": [[float(v)] for v in values]}, mean_of_all)
    half = 1.96 * values.std() / np.sqrt(1000)
    assert (score.low, score.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_groups_are_drawn_apart():
    """What varies between groups alone does not widen the interval of their mean."""
    score = bootstrap({"low": [[0.0]] * 30, "high": [[1.0]] * 30}, mean_of_means)
    assert (score.low, score.value, score.high) == (0.5, 0.5, 0.5)


def test_every_group_has_its_own_weight():
    """A group of 5 rules the mean of means: the interval is half of that group's own, and wider than that of all."""
    noisy = [[0.0], [1.0], [0.0], [1.0], [1.0]]
    groups = {"few": noisy, "many": [[0.5]] * 95}
    alone, both = bootstrap({"few": noisy}, mean_of_means), bootstrap(groups, mean_of_means)
    assert both.high - both.low == pytest.approx((alone.high - alone.low) / 2, abs=1e-9)
    of_all = bootstrap(groups, mean_of_all)
    assert of_all.high - of_all.low < 0.2 * (both.high - both.low)


def test_pictures_of_one_prompt_are_one_cluster():
    """Four equal pictures of a prompt are no more than one: the interval is that of the prompts, not half as wide."""
    rng = np.random.default_rng(2)
    prompts = [float(v) for v in rng.random(200) < 0.6]
    clustered = bootstrap({"all": [[v] * 4 for v in prompts]}, mean_of_all)
    loose = bootstrap({"all": [[v] for v in prompts for _ in range(4)]}, mean_of_all)
    single = bootstrap({"all": [[v] for v in prompts]}, mean_of_all)
    assert clustered.n == loose.n == 800
    assert (clustered.low, clustered.high) == (single.low, single.high)
    assert (clustered.high - clustered.low) / (loose.high - loose.low) == pytest.approx(2, abs=0.2)


def test_clusters_of_unequal_size_are_drawn_whole():
    """Two clusters, of one value and of three: only the means of (a, a), (a, b) and (b, b) can come."""
    seen = set()
    bootstrap({"all": [[0.0], [1.0, 1.0, 1.0]]}, lambda groups: seen.add(mean_of_all(groups)) or mean_of_all(groups))
    assert seen == {0.0, 0.75, 1.0}


def test_the_interval_holds_the_truth_as_often_as_it_says(monkeypatch):
    """Prompts differ, their four pictures are alike: 95 % intervals of clusters hold the truth 95 times of 100, those
    of loose pictures do not.
    """
    monkeypatch.setattr(statistics, "DRAWS", 200)
    rng = np.random.default_rng(3)
    held = {"clusters": 0, "loose": 0}
    for trial in range(200):
        ease = rng.beta(0.7, 0.3, size=60)  # of a prompt; its mean is 0.7
        pictures = (rng.random((60, 4)) < ease[:, None]).astype(float)
        for name, clusters in {"clusters": pictures, "loose": pictures.reshape(-1, 1)}.items():
            score = bootstrap({"all": clusters.tolist()}, mean_of_all, seed=trial)
            held[name] += score.low <= 0.7 <= score.high
    assert 0.91 <= held["clusters"] / 200 <= 0.98, held
    assert held["loose"] / 200 < 0.85, held


@pytest.mark.parametrize("beta", [(4, 1), (1, 1), (0.5, 0.2), (20, 1)])
def test_wilson_of_clusters_holds_the_truth_as_often_as_it_says(beta):
    """80 prompts of four pictures, as a task of GenEval; each prompt has a rate of its own."""
    rng, held, trials = np.random.default_rng(8), 0, 400
    truth = beta[0] / sum(beta)
    for _ in range(trials):
        pictures = rng.random((80, 4)) < rng.beta(*beta, size=80)[:, None]
        score = wilson_of_clusters(pictures.astype(float).tolist())
        held += score.low <= truth <= score.high
    assert 0.925 <= held / trials <= 0.98, held / trials


def test_the_design_effect_of_known_clusters():
    """Equal pictures count once, loose ones each; against the correlation by its definition, the pairs of a cluster."""
    rng = np.random.default_rng(9)
    assert design_effect([[v] * 4 for v in (0, 1, 1, 0, 1)]) == pytest.approx(4)
    assert design_effect([[0, 1], [1, 0], [0, 1]]) == 1  # less alike than chance: never below 1
    assert design_effect([[1, 1, 1, 1], [1, 1, 1, 1]]) == 4
    loose = (rng.random((4000, 4)) < 0.6).astype(float)
    assert design_effect(loose) == pytest.approx(1, abs=0.1)
    alike = (rng.random((4000, 4)) < rng.beta(1, 1, size=4000)[:, None]).astype(float)
    assert design_effect(alike) == pytest.approx(1 + 3 / 3, abs=0.1)  # a beta's correlation is 1 / (a + b + 1)
    assert design_effect(list(alike) + [row[:2] for row in alike]) == pytest.approx(1 + (20 / 6 - 1) / 3, abs=0.1)


def test_wilson_of_clusters_is_wilson_where_each_is_one_value():
    assert wilson_of_clusters([[1.0]] * 7 + [[0.0]] * 3 + [[]]) == wilson(7, 10)
    assert wilson_of_clusters([[1.0] * 4] * 20).low == wilson(20, 20).low
    assert wilson_of_clusters([[0, 1], [1, 0]]) == wilson(2, 4)
    assert wilson_of_clusters([]) == wilson(0, 0)
    with pytest.raises(ValueError, match="zeros and ones"):
        wilson_of_clusters([[0.5]])


def test_one_seed_gives_one_interval():
    groups = {"all": [[float(v)] for v in np.random.default_rng(4).random(50)]}
    assert bootstrap(groups, mean_of_all, seed=5) == bootstrap(groups, mean_of_all, seed=5)
    assert bootstrap(groups, mean_of_all, seed=5) != bootstrap(groups, mean_of_all, seed=6)


def test_a_whole_geneval_is_quick():
    pictures = np.random.default_rng(6).random((553, 4)).tolist()
    start = time.process_time()
    bootstrap({"all": pictures}, mean_of_all)
    bootstrap({str(i): pictures[i::6] for i in range(6)}, mean_of_means)
    assert time.process_time() - start < 2
