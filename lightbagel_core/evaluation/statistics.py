"""Intervals: Wilson's for shares, the bootstrap's for means. All at 95 %."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt

import numpy as np

from .scores import Score

Z = 1.959963984540054  # of the normal distribution, two-sided 95 %
DRAWS = 2000  # of the bootstrap; the ends of an interval then stand to about a fortieth of its width


def wilson(right: int, n: int) -> Score:
    """The share right / n with Wilson's score interval (1927); of nothing, 0 with the interval 0 to 1.

    Raises:
        ValueError: `right` lies outside 0..n.
    """
    if not 0 <= right <= n:
        raise ValueError(f"{right} of {n} is no share")
    if n == 0:
        return Score(0.0, 0.0, 1.0, 0)
    share = right / n
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return Score(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), n)


def bootstrap(
    groups: Mapping[str, Sequence[Sequence[float]]],
    overall: Callable[[Sequence[Sequence[float]]], float],
    seed: int = 0,
) -> Score:
    """A figure over groups of clusters of values, with the percentile bootstrap's interval.

    Whole clusters are drawn anew within each group, since the pictures of one prompt are alike. A group of one cluster
    cannot vary: its interval is too narrow then.

    Args:
        groups: for each group its clusters, each the values of one prompt.
        overall: makes the figure of the groups' values, each group a list or an array of them; see `mean_of_means` and
            `mean_of_all`.
        seed: of the draws; the same seed gives the same interval.
    """
    kept = [[cluster for cluster in clusters if len(cluster)] for clusters in groups.values()]
    kept = [clusters for clusters in kept if clusters]
    flat = [[value for cluster in clusters for value in cluster] for clusters in kept]
    n = sum(map(len, flat))
    if not n:
        return Score(0.0, 0.0, 0.0, 0)
    rng = np.random.default_rng(seed)
    tables = [_padded(clusters) for clusters in kept]
    drawn = []
    for _ in range(DRAWS):
        again = []
        for values, filled in tables:
            rows = rng.integers(len(values), size=len(values))
            again.append(values[rows][filled[rows]])
        drawn.append(overall(again))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Score(overall(flat), float(low), float(high), n)


def _padded(clusters: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Clusters as one table, [clusters, longest], and where it is filled: drawing rows of it is quick."""
    filled = np.arange(max(map(len, clusters))) < np.array([[len(cluster)] for cluster in clusters])
    values = np.zeros(filled.shape)
    values[filled] = [value for cluster in clusters for value in cluster]
    return values, filled


def mean_of_means(groups: Sequence[Sequence[float]]) -> float:
    """The mean of the groups' means: every group counts the same."""
    return float(np.mean([np.mean(values) for values in groups]))


def mean_of_all(groups: Sequence[Sequence[float]]) -> float:
    """The mean of all values: every value counts the same."""
    return float(np.mean(np.concatenate([np.asarray(values) for values in groups])))
