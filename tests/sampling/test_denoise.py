"""The loop reports every step and can be stopped."""

from __future__ import annotations

import pytest
import torch

from lightbagel_core.sampling.denoise import Stopped, draw_noise, sample
from lightbagel_core.sampling.solvers import make_solver


def test_a_callback_sees_every_step_and_can_stop():
    seen: list[tuple[int, int]] = []

    def on_step(done: int, total: int, _: torch.Tensor) -> bool:
        seen.append((done, total))
        return done < 2

    with pytest.raises(Stopped, match="2 of 5"):
        sample(lambda x, t: x, torch.zeros(1, 1, 2, 2), make_solver("euler", 5, 4.0), on_step)
    assert seen == [(1, 5), (2, 5)]


@pytest.mark.parametrize(("count", "seed", "reason"), [(0, 0, "at least 1, not 0"), (1, 2**64, "the seed must lie")])
def test_noise_that_cannot_be_is_refused(count, seed, reason):
    with pytest.raises(ValueError, match=reason):
        draw_noise((count, 1, 2, 2), seed)
