"""Guidance, renorm and times against their formulas written out; solvers against a flow with a known solution."""

from __future__ import annotations

import math

import pytest
import torch

from lightbagel_core.flow import Guidance, add_noise, combine, shift_time, training_time
from lightbagel_core.sampling import Stopped, make_solver, sample


def three(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 4, 4, generator=generator) for _ in range(3)]


def test_shift_and_training_times():
    assert shift_time(torch.tensor(0.5), 4.0).item() == pytest.approx(0.8)
    assert training_time(torch.tensor(0.0)).item() == pytest.approx(0.8)
    t = training_time(torch.randn(20000, generator=torch.Generator().manual_seed(0)))
    assert 0 < t.min() < 0.1 < 0.9 < t.max() < 1
    assert t.median().item() == pytest.approx(0.8, abs=0.01)


def test_noised_latents_run_from_picture_to_noise():
    x, n = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    assert add_noise(x, n, torch.tensor([0.0, 0.25, 1.0]))[:, 0, 0, 0].tolist() == [0.0, 0.25, 1.0]


def test_text_guidance_then_image_guidance():
    v, negative, no_image = three()
    text = negative + 3 * (v - negative)
    torch.testing.assert_close(combine([v, negative], Guidance(3)), text)
    torch.testing.assert_close(combine([v, negative, no_image], Guidance(3, 2)), no_image + 2 * (text - no_image))


def test_branches():
    assert Guidance(1.0, 5.0).branches == ("full",)
    assert Guidance(3.0, 1.0).branches == ("full", "negative")
    assert Guidance(3.0, 1.5).branches == ("full", "negative", "no_image")


def test_interval_is_open_below_and_closed_above():
    guidance = Guidance(3, interval=(0.25, 0.75))
    assert [guidance.active(t) for t in (0.2, 0.25, 0.26, 0.75, 0.76)] == [False, False, True, True, False]
    assert not Guidance(1).active(0.5)


def test_renorm_global_and_channel():
    v, negative, no_image = three(1)
    out = combine([v, negative, no_image], Guidance(4, 2))
    got = combine([v, negative, no_image], Guidance(4, 2, renorm="global"))
    for b in range(2):
        factor = min(1.0, float(v[b].norm() / out[b].norm()))
        torch.testing.assert_close(got[b], out[b] * factor)
    got = combine([v, negative, no_image], Guidance(4, 2, renorm="channel"), patch=2)
    for r in range(2):
        for c in range(2):
            token = (slice(None), slice(None), slice(2 * r, 2 * r + 2), slice(2 * c, 2 * c + 2))
            for b in range(2):
                factor = min(1.0, float(v[token][b].norm() / out[token][b].norm()))
                torch.testing.assert_close(got[token][b], out[token][b] * factor)


def test_renorm_text_channel_acts_before_the_image_step():
    v, negative, no_image = three(2)
    text = combine([v, negative], Guidance(4, renorm="channel"), patch=2)
    expected = no_image + 2 * (text - no_image)
    torch.testing.assert_close(
        combine([v, negative, no_image], Guidance(4, 2, renorm="text_channel"), patch=2), expected
    )


def test_renorm_minimum_and_never_above_one():
    v = torch.full((1, 1, 2, 2), 1.0)
    negative = torch.full((1, 1, 2, 2), -1.0)  # guided by 4: 7, so the factor 1/7
    assert combine([v, negative], Guidance(4, renorm="global", renorm_min=0.5)).unique().item() == pytest.approx(3.5)
    closer = torch.full((1, 1, 2, 2), 2.0)  # guided by 1.5: 0.5, shorter than v: left alone
    assert combine([v, closer], Guidance(1.5, renorm="global")).unique().item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"text": math.nan},
        {"image": math.inf},
        {"interval": (0.5, 0.5)},
        {"interval": (-0.1, 1.0)},
        {"renorm": "loud"},
        {"renorm_min": math.nan},
    ],
)
def test_impossible_guidance_is_refused(bad):
    with pytest.raises(ValueError, match=r"must be|must satisfy"):
        Guidance(**bad)


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


def test_a_callback_sees_every_step_and_can_stop():
    seen: list[tuple[int, int]] = []

    def on_step(done: int, total: int, _: torch.Tensor) -> bool:
        seen.append((done, total))
        return done < 2

    with pytest.raises(Stopped, match="2 of 5"):
        sample(lambda x, t: x, torch.zeros(1, 1, 2, 2), make_solver("euler", 5, 4.0), on_step)
    assert seen == [(1, 5), (2, 5)]
