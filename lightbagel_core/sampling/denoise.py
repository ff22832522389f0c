"""The loop from noise to a picture's latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Stopped(Exception):
    """A run was stopped by its callback."""


def sample(
    velocity: Callable[[Tensor, float], Tensor],
    noise: Tensor,
    solver: Any,
    on_step: Callable[[int, int, Tensor], bool | None] | None = None,
) -> Tensor:
    """Integrates `velocity(x, t)` from noise to a picture's latents.

    Args:
        velocity: of latents x [B, C, h, w] at flow time t.
        noise: float32 [B, C, h, w].
        solver: from `make_solver`, fresh.
        on_step: called with (steps done, all steps, latents); returning False stops the run.

    Raises:
        Stopped: `on_step` returned False.
    """
    x = noise
    total = len(solver.timesteps)
    for i, step in enumerate(solver.timesteps):
        t = float(solver.sigmas[i])
        x = solver.step(velocity(x, t), step, x, return_dict=False)[0]
        if on_step is not None and on_step(i + 1, total, x) is False:
            raise Stopped(f"stopped after step {i + 1} of {total}")
    return x
