"""diffusers' solvers over the flow's velocity."""

from __future__ import annotations

from typing import Any, get_args

import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from ..config import SolverName
from .schedule import schedule


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
