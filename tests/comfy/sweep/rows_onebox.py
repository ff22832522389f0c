"""What is expected of MODEL patches in front of LightBagel Generate, and of every sampler of KSampler."""

from __future__ import annotations

from typing import Any

import torch
from helpers import PROMPT, SETTINGS, SIDE

from . import rows_model
from .expect import NOTHING, REFUSED, WORKS, WRONG, Expectation, Row, Verdict, Worlds, holds, row, tried, warnings_said
from .world import World


def boxed(world: World, model: Any, steps: int) -> torch.Tensor:
    """The picture of LightBagel Generate."""
    settings = {**SETTINGS, "steps": steps, "prompt": PROMPT, "width": SIDE, "height": SIDE, "batch_size": 1}
    clip, vae = world.part("CLIP"), world.part("VAE")
    return world.run("LightBagelGenerate", model=model, clip=clip, vae=vae, **settings)


def box(must_act: bool) -> Expectation:
    def judge(at: Row, worlds: Worlds) -> Verdict:
        world, steps = worlds.ours, at.draw.get("steps", 2)
        model = world.call(at.node, **at.settings)[0]
        plain = boxed(world, world.part("MODEL"), steps)
        with warnings_said() as said:
            image = boxed(world, model, steps)
        told = [line for line in said if "LightBagel" in line]
        if told:
            return REFUSED, "said in the log: " + told[0][:160]
        acted = not torch.allclose(image, plain, atol=1e-3)
        if acted == must_act:
            return WORKS, ""
        return (WRONG, "changes the picture without a word") if acted else (NOTHING, "unchanged without a word")

    words = "changes the picture" if must_act else "the picture unchanged"
    return Expectation(f"in LightBagel Generate: {words}, or named in the log", tried(judge))


def coloured(world: World, inputs: Any, outputs: Any) -> bool | str:
    """Of a red circle and a blue square: at least 100 pixels of either colour."""
    samples = outputs[0]["samples"]
    if not samples.isfinite().all():
        return "not finite"
    picture = world.decode(samples).reshape(-1, 3)
    red, blue = (int(((picture[:, a] > 0.6) & (picture[:, b] < 0.4)).sum()) for a, b in ((0, 2), (2, 0)))
    return (red >= 100 and blue >= 100) or f"{red} red and {blue} blue pixels"


OTHER_TIMES = {
    "ModelSamplingAuraFlow", "ModelSamplingFlux", "ModelSamplingLTXV", "ModelSamplingDiscrete",
    "ModelSamplingContinuousEDM", "ModelSamplingContinuousV", "ModelSamplingStableCascade",
}  # fmt: skip
SAMPLERS = [
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "exp_heun_2_x0",
    "exp_heun_2_x0_sde",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
]
ROWS = [
    *[
        Row(one.node, box(one.node not in OTHER_TIMES), one.settings, one.draw, "in LightBagel Generate", full=True)
        for one in rows_model.ROWS
        if one.expected.words.startswith("changes the picture") or one.node in (*OTHER_TIMES, "MiniMaxH3SigmaShift")
        if one.node not in ("CLIPAttentionMultiply", "DifferentialDiffusion")
    ],
    *[
        row("KSampler", holds("red and blue in the picture of twelve steps", coloured), label=name, sampler_name=name,
            steps=12, cfg=0.5 if name.endswith("cfg_pp") else 2.0, latent_image=lambda w: w.part("EMPTY"))
        for name in SAMPLERS
    ],
]  # fmt: skip
