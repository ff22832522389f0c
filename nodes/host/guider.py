"""The authors' sampling inside ComfyUI's: a guider with both guidances and renorm, the core's solvers as SAMPLERs."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from ...lightbagel_core.config import SolverName
from ...lightbagel_core.sampling.denoise import sample
from ...lightbagel_core.sampling.guidance import Guidance, combine
from ...lightbagel_core.sampling.schedule import schedule
from ...lightbagel_core.sampling.solvers import make_solver
from .patched import tell_of_guiding


class Guider(comfy.samplers.CFGGuider):
    """Text and image guidance in velocity space (see the core's `Guidance`); all branches of a step in one batch.

    Text guidance alone is ComfyUI's CFG, with all that other nodes have changed of it. With image guidance or renorm
    only what sees the result (post-CFG functions) still acts; of the rest the person is told.
    """

    def __init__(self, model: Any, guidance: Guidance, conds: dict[str, Any]) -> None:
        super().__init__(model)
        self.guidance = guidance
        self.inner_set_conds({name: conds[name] for name in guidance.branches})

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        t, options = float(timestep.flatten()[0]), model_options or {}
        guidance, active = self.guidance, self.guidance.active(float(timestep.flatten()[0]))
        if guidance.plain:
            scale = guidance.text if active else 1.0
            negative, full = self.conds.get("negative"), self.conds["full"]
            return comfy.samplers.sampling_function(self.inner_model, x, timestep, negative, full, scale, options, seed)
        tell_of_guiding(options)
        names = guidance.branches if active else guidance.branches[:1]
        conds = [self.conds[name] for name in names]
        branches = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)
        patch = self.inner_model.diffusion_model.patch_size[-1]
        guided = x - t * combine([(x - denoised) / t for denoised in branches], guidance, patch)
        return comfy.samplers.cfg_function(
            self.inner_model,
            branches[0],
            branches[1] if active else torch.zeros_like(x),
            guidance.text if active else 1.0,
            x,
            timestep,
            {**options, "sampler_cfg_function": lambda _: x - guided},
            cond=conds[0],
            uncond=conds[1] if active else None,
        )


def sampler(name: SolverName, steps: int, shift: float) -> tuple[Any, Tensor]:
    """(SAMPLER, SIGMAS) of one of the core's solvers."""

    def run(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any, callback: Any, **kwargs: Any) -> Tensor:
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
