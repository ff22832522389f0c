"""Intervals: Wilson's for shares, of loose things or of clusters; the bootstrap's for means. All at 95 %."""

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
    low, high = _ends(right / n, n)
    return Score(right / n, low, high, n)


def _ends(share: float, n: float) -> tuple[float, float]:
    """Of Wilson's interval of a share of n things; after a design effect, n is no whole number."""
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def wilson_of_clusters(clusters: Sequence[Sequence[float]]) -> Score:
    """The share of ones in clusters of zeros and ones, with Wilson's interval of fewer things: the pictures of one
    prompt are alike, and say less than as many of different prompts.

    Their number is divided by Kish's design effect, 1 + (m - 1) * intraclass correlation, never below 1. m is the size
    of a cluster, sum of squares over sum; the correlation is estimated by an analysis of variance. Where all values
    are the same it cannot be estimated and is taken as 1, the widest interval. With clusters of one value each this is
    `wilson`.

    Raises:
        ValueError: a value is neither 0 nor 1.
    """
    kept = [cluster for cluster in clusters if len(cluster)]
    if not all(value in (0, 1) for cluster in kept for value in cluster):
        raise ValueError("a share is made of zeros and ones alone")
    right, n = sum(int(sum(cluster)) for cluster in kept), sum(map(len, kept))
    if n == len(kept):
        return wilson(right, n)
    low, high = _ends(right / n, n / design_effect(kept))
    return Score(right / n, low, high, n)


def design_effect(clusters: Sequence[Sequence[float]]) -> float:
    """By how much the variance of a mean grows since its values come in clusters, by Kish's rule; at least 1.

    Args:
        clusters: none of them empty.
    """
    values, filled = _padded(clusters)
    sizes, sums, squares = filled.sum(1), values.sum(1), (values**2).sum(1)
    n, m = sizes.sum(), (sizes**2).sum() / sizes.sum()
    if len(sizes) < 2 or n == len(sizes):
        return float(m)
    between = (sizes * (sums / sizes - sums.sum() / n) ** 2).sum() / (len(sizes) - 1)
    within = (squares - sums**2 / sizes).sum() / (n - len(sizes))
    usual = (n - m) / (len(sizes) - 1)  # the size that the analysis of variance takes for all
    spread = between + (usual - 1) * within
    alike = (between - within) / spread if spread > 0 else 1.0
    return float(max(1.0, 1 + (m - 1) * alike))


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
