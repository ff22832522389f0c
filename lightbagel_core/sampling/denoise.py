"""The loop from noise to a picture's latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .guidance import Guidance, combine

Velocity = Callable[[Tensor, float], Tensor]  # of latents x [B, C, h, w] at flow time t
OnStep = Callable[[int, int, Tensor], bool | None]  # of steps done, all steps, latents; False stops the run


class Stopped(Exception):
    """A run was stopped by its callback."""


def check_noise(count: int, seed: int | torch.Generator) -> None:
    """Raises ValueError for fewer than one picture, or a seed outside what torch takes."""
    if count < 1:
        raise ValueError(f"the number of images must be at least 1, not {count}")
    if isinstance(seed, int) and not -(2**63) <= seed < 2**64:
        raise ValueError(f"the seed must lie between -2^63 and 2^64 - 1, not {seed}")


def draw_noise(shape: tuple[int, ...], seed: int | torch.Generator) -> Tensor:
    """Float32 noise of shape[0] pictures, drawn on the generator's device, by default the CPU, so that a seed means the
    same everywhere.

    Raises:
        ValueError: as `check_noise`.
    """
    check_noise(shape[0], seed)
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, device=generator.device)


def guided(plain: Velocity, together: Velocity, guidance: Guidance, patch: int) -> Velocity:
    """The guided velocity, from those of one branch alone and of all branches one after the other in a batch."""
    count = len(guidance.branches)

    def velocity(x: Tensor, t: float) -> Tensor:
        if not guidance.active(t):
            return plain(x, t)
        return combine(list(together(x.repeat(count, 1, 1, 1), t).chunk(count)), guidance, patch)

    return velocity


def sample(velocity: Velocity, noise: Tensor, solver: Any, on_step: OnStep | None = None) -> Tensor:
    """Integrates `velocity(x, t)` from noise to a picture's latents.

    Args:
        noise: float32 [B, C, h, w].
        solver: from `make_solver`, fresh.

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
