"""Flow matching's noise times. Pure, torch only.

x_t = (1 - t) x + t n, velocity v = n - x; t runs from 1 (noise) to 0 (picture).
"""

from __future__ import annotations

import torch
from torch import Tensor


def shift_time(t: Tensor, shift: float) -> Tensor:
    """t <- shift t / (1 + (shift - 1) t): spends more of the run near noise; 4 in training and sampling.

    (docs/model.md, section 7)
    """
    return shift * t / (1 + (shift - 1) * t)


def training_time(normal: Tensor, shift: float = 4.0) -> Tensor:
    """Training times from standard normal draws: sigmoid, then the shift."""
    return shift_time(normal.sigmoid(), shift)


def schedule(steps: int, shift: float) -> Tensor:
    """The flow times of a run, float32 [steps + 1], from just under 1 down to 0.

    Even steps from 0.999, as Wan's own flow solvers take them (at 1 itself the multistep solvers divide by zero), then
    the shift.
    """
    return shift_time(torch.linspace(0.999, 0.0, steps + 1, dtype=torch.float64), shift).float()


def add_noise(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t of clean latents x [B, ...] at times t [B]."""
    t = t.view(-1, *[1] * (x.ndim - 1))
    return (1 - t) * x + t * noise
