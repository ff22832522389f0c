"""Solvers against a flow with a known solution."""

from __future__ import annotations

import pytest
import torch

from lightbagel_core.sampling.denoise import sample
from lightbagel_core.sampling.solvers import make_solver


@pytest.mark.parametrize("name", ["euler", "unipc", "dpm++"])
def test_sigmas_are_the_shifted_schedule(name):
    solver = make_solver(name, 10, 4.0)
    assert len(solver.timesteps) == 10
    for i, sigma in enumerate(solver.sigmas):
        even = 0.999 * (10 - i) / 10
        assert float(sigma) == pytest.approx(4 * even / (1 + 3 * even), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"),
    [
        ("euler", 400, 0.008),
        ("unipc", 40, 0.004),
        ("dpm++", 40, 0.004),
        ("unipc", 320, 0.001),
    ],  # 320: repeated timesteps
)
def test_solvers_follow_a_flow_with_a_known_solution(name, steps, tolerance):
    """Data ~ N(m, s^2): the exact velocity is known, and noise z lands on m + s z."""
    mean, std = 1.5, 0.5

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        variance = ((1 - t) * std) ** 2 + t**2
        slope = (t - (1 - t) * std**2) / variance
        return slope * (x - (1 - t) * mean) - mean

    z = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    end = sample(velocity, z, make_solver(name, steps, 4.0))
    assert (end - (mean + std * z)).square().mean().sqrt() < tolerance


def test_a_straight_flow_is_exact_in_one_step():
    z, x = torch.randn(1, 2, 2, 2), torch.randn(1, 2, 2, 2)
    start = float(make_solver("euler", 1, 4.0).sigmas[0])  # a hair under 1
    torch.testing.assert_close(sample(lambda *_: z - x, z, make_solver("euler", 1, 4.0)), z - start * (z - x))


@pytest.mark.parametrize(("name", "steps"), [("heun", 5), ("euler", 0), ("unipc", -1)])
def test_impossible_solvers_are_refused(name, steps):
    with pytest.raises(ValueError, match=r"solver must be|at least 1"):
        make_solver(name, steps, 4.0)
