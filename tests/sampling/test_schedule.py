"""Noise times against their formulas written out."""

from __future__ import annotations

import pytest
import torch

from lightbagel_core.sampling.schedule import add_noise, shift_time, training_time


def test_shift_and_training_times():
    assert shift_time(torch.tensor(0.5), 4.0).item() == pytest.approx(0.8)
    assert training_time(torch.tensor(0.0)).item() == pytest.approx(0.8)
    t = training_time(torch.randn(20000, generator=torch.Generator().manual_seed(0)))
    assert 0 < t.min() < 0.1 < 0.9 < t.max() < 1
    assert t.median().item() == pytest.approx(0.8, abs=0.01)


def test_noised_latents_run_from_picture_to_noise():
    x, n = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    assert add_noise(x, n, torch.tensor([0.0, 0.25, 1.0]))[:, 0, 0, 0].tolist() == [0.0, 0.25, 1.0]
