"""Sampling: diffusers' solvers over the flow's velocity, with the loop that drives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from .config import SolverName
from .flow import schedule


class Stopped(Exception):
    """A run was stopped by its callback."""


def make_solver(name: SolverName, steps: int, shift: float, device: torch.device | str = "cpu") -> Any:
    """A diffusers scheduler set up for `steps` steps; its `sigmas` are the flow times.

    Raises:
        ValueError: an unknown solver or fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    scheduler: Any
    if name == "unipc":
        scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
        )
    elif name == "dpm++":
        scheduler = DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, algorithm_type="dpmsolver++"
        )
    elif name == "euler":
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    else:
        raise ValueError(f"solver must be one of {', '.join(get_args(SolverName))}, not {name!r}")
    scheduler.set_timesteps(steps, device=device)
    # One grid for every solver and every diffusers version: their own differ in the third digit.
    scheduler.sigmas = schedule(steps, shift)
    scheduler.timesteps = (scheduler.sigmas[:-1] * 1000).to(device)
    # Else the first step looks its index up by its timestep, which in some versions is a rounded one.
    scheduler.set_begin_index(0)
    return scheduler


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
