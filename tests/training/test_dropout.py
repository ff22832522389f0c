"""Segments are dropped independently, each kind at its own rate."""

from __future__ import annotations

import numpy as np
import pytest

from lightbagel_core.training.dropout import SegmentDropout


def test_each_kind_is_dropped_at_its_rate_and_independently():
    dropout, rng = SegmentDropout(text=0.1, clean=0.3, vit=0.5), np.random.default_rng(0)
    kept = np.array([[dropout.keeps(kind, rng) for kind in ("text", "clean", "vit")] for _ in range(20000)])
    assert 1 - kept.mean(0) == pytest.approx([0.1, 0.3, 0.5], abs=0.01)
    assert (~kept).all(1).mean() == pytest.approx(0.1 * 0.3 * 0.5, abs=0.004)


def test_at_the_ends_of_the_scale():
    rng = np.random.default_rng(0)
    assert all(SegmentDropout(text=0).keeps("text", rng) for _ in range(1000))
    assert not any(SegmentDropout(text=1).keeps("text", rng) for _ in range(1000))


def test_the_papers_rates_are_the_default():
    assert SegmentDropout() == SegmentDropout(text=0.1, clean=0.1, vit=0.5)
