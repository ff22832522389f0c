"""The authors' sampling inside ComfyUI's: a guider with both guidances and renorm, the core's solvers as SAMPLERs."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from torch import Tensor

from ...lightbagel_core.config import SolverName
from ...lightbagel_core.sampling.denoise import sample
from ...lightbagel_core.sampling.guidance import Guidance, combine
from ...lightbagel_core.sampling.schedule import schedule
from ...lightbagel_core.sampling.solvers import make_solver


class Guider(comfy.samplers.CFGGuider):
    """Text and image guidance in velocity space (see the core's `Guidance`); all branches of a step in one batch."""

    def __init__(self, model: Any, guidance: Guidance, conds: dict[str, Any]) -> None:
        super().__init__(model)
        self.guidance = guidance
        self.inner_set_conds({name: conds[name] for name in guidance.branches})

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        t = float(timestep.flatten()[0])
        names = self.guidance.branches if self.guidance.active(t) else self.guidance.branches[:1]
        branches = comfy.samplers.calc_cond_batch(
            self.inner_model, [self.conds[name] for name in names], x, timestep, model_options or {}
        )
        velocities = [(x - denoised) / t for denoised in branches]
        patch = self.inner_model.diffusion_model.patch_size[-1]
        return x - t * combine(velocities, self.guidance, patch)


def sampler(name: SolverName, steps: int, shift: float) -> tuple[Any, Tensor]:
    """(SAMPLER, SIGMAS) of one of the core's solvers."""

    def run(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any, callback: Any, disable: bool) -> Tensor:
        last: dict[str, Tensor] = {}

        def velocity(x: Tensor, t: float) -> Tensor:
            last["denoised"] = model(x, x.new_full((len(x),), t), **extra_args)
            return (x - last["denoised"]) / t

        def on_step(done: int, total: int, latents: Tensor) -> None:
            if callback is not None:
                sigma = sigmas[done - 1]
                callback({"x": latents, "i": done - 1, "sigma": sigma, "sigma_hat": sigma, **last})

        return sample(velocity, x, make_solver(name, steps, shift, x.device), on_step)

    return comfy.samplers.KSAMPLER(run), schedule(steps, shift)
