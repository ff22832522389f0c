"""What is expected of samplers, schedules, guiders and noises."""

from __future__ import annotations

from typing import Any

import torch
from helpers import CELLS, SEED

from .expect import Row, flat, foreign, garbled, gives, holds, like, row
from .world import World

FLOW = {"sigma_max": 1.0, "sigma_min": 0.02}


def ksampler(name: str, steps: int = 4) -> Any:
    """What KSampler draws with the sampler of that name."""
    return like(f"KSampler's {name}", lambda world: world.draw(sampler_name=name, steps=steps), differs=False)


def falling(world: World, inputs: Any, outputs: Any) -> bool | str:
    """Noise levels from 1 down to 0, as a flow model takes them; a picture comes of them."""
    sigmas = outputs[0]
    if not (sigmas[:-1] >= sigmas[1:]).all() or not 0.9 <= float(sigmas[0]) <= 1.0001 or float(sigmas[-1]) > 0.11:
        return f"from {float(sigmas[0]):.3g} to {float(sigmas[-1]):.3g}"
    drawn = world.draw(sigmas=sigmas)
    return garbled(drawn, world.plain()) or True


def same_path(world: World, inputs: Any, outputs: Any) -> bool | str:
    """The two parts, one after the other, draw the whole."""
    high, low = outputs
    begun = world.draw(sigmas=high)
    no_noise = world.run("DisableNoise")
    ended = world.draw(sigmas=low, noise=no_noise, latent={"samples": begun})
    return torch.allclose(flat(ended), flat(world.draw(sigmas=inputs["sigmas"])), atol=1e-2) or "another picture"


def noised(world: World, inputs: Any) -> torch.Tensor:
    """x + sigma (noise - x) at the difference of the first and last noise level."""
    latent, noise = inputs["latent_image"]["samples"], world.part("NOISE").generate_noise(inputs["latent_image"])
    sigma = float(inputs["sigmas"][0] - inputs["sigmas"][-1])
    format = world.part("MODEL").get_model_object("latent_format")
    return format.process_out((1 - sigma) * format.process_in(latent) + sigma * noise)


def guided(**settings: Any) -> Any:
    return lambda world: world.draw(**{k: v(world) if callable(v) else v for k, v in settings.items()})


def shifted(world: World, inputs: Any, outputs: Any) -> bool | str:
    """4t / (1 + 3t) at t = 1 - percent: our shift is 4."""
    t = 1 - inputs["sampling_percent"]
    right = 4 * t / (1 + 3 * t)
    return abs(outputs[0] - right) < 1e-3 or f"{outputs[0]} where {right} is right"


def sampler(node: str, name: str, **settings: Any) -> Row:
    return row(node, ksampler(name), draw={"steps": 4}, **settings)


def no_noise(world: World, inputs: Any) -> torch.Tensor:
    return torch.zeros_like(world.part("EMPTY")["samples"])


def noise_of(world: World, inputs: Any, outputs: Any) -> bool | str:
    noise = outputs[0].generate_noise(world.part("EMPTY"))
    shape = world.part("EMPTY")["samples"].shape
    zero = not inputs
    right = torch.zeros(shape) if zero else torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    return torch.equal(noise, right) or "other numbers"


def upscaled(world: World, inputs: Any, outputs: Any) -> bool | str:
    drawn = world.draw(sampler=outputs[0], steps=4)
    right = [2 * CELLS] * 2
    return list(drawn.shape[-2:]) == right or f"{list(drawn.shape)} where {right} cells are right"


EMPTY = {"latent_image": lambda w: w.part("EMPTY")}
POSITIVE, NEGATIVE, OTHER = (
    (lambda w: w.part("CONDITIONING")),
    (lambda w: w.part("NEGATIVE")),
    (lambda w: w.part("OTHER")),
)

ROWS = [
    row("KSampler", gives("SamplerCustomAdvanced's picture", lambda w, i: w.custom()), cfg=2.0, seed=SEED, **EMPTY),
    row("KSamplerAdvanced", gives("KSampler's picture", lambda w, i: w.plain()), cfg=2.0, noise_seed=SEED, **EMPTY),
    row("SamplerCustom", gives("KSampler's picture", lambda w, i: w.plain()), cfg=2.0, noise_seed=SEED, **EMPTY),
    row("SamplerCustomAdvanced", gives("KSampler's picture", lambda w, i: w.plain()), **EMPTY),
    # Guiders
    row("CFGGuider", like("KSampler's at that CFG", guided(cfg=3.0)), cfg=3.0),
    row("BasicGuider", like("KSampler's without guidance", guided(cfg=1.0))),
    row("DualCFGGuider", like("CFG alone, where both conditionings are one", guided(cfg=3.0)), cond2=POSITIVE,
        cfg_conds=3.0, cfg_cond2_negative=3.0, cond1=POSITIVE),
    row("DualCFGGuider", like("CFG alone, where the second is the negative", guided(cfg=3.0)), label="nested",
        cond1=POSITIVE, cond2=NEGATIVE, cfg_conds=3.0, cfg_cond2_negative=1.0, style="nested"),
    row("DualModelGuider", like("CFG alone, where both models are one", guided(cfg=3.0)), cfg=3.0,
        model_negative=lambda w: w.part("MODEL"), negative=NEGATIVE),
    row("PerpNegGuider", like("CFG alone, where the negative is the empty one", guided(cfg=3.0)), cfg=3.0,
        empty_conditioning=NEGATIVE, neg_scale=0.0),
    # Noises
    row("RandomNoise", holds("the generator's numbers", noise_of), noise_seed=SEED),
    row("DisableNoise", holds("zeros", noise_of)),
    row("AddNoise", gives("the latent at the schedule's noise", noised, atol=1e-3)),
    row("VOIDWarpedNoiseSource", foreign("VOID")),
    # Samplers
    row("KSamplerSelect", ksampler("heun"), sampler_name="heun", draw={"steps": 4}),
    sampler("SamplerEulerAncestral", "euler_ancestral"),
    sampler("SamplerEulerAncestralCFGPP", "euler_ancestral_cfg_pp"),
    sampler("SamplerEulerCFGpp", "euler_cfg_pp"),
    sampler("SamplerDPMAdaptative", "dpm_adaptive"),
    sampler("SamplerDPMPP_2M_SDE", "dpmpp_2m_sde", noise_device="cpu"),
    sampler("SamplerDPMPP_2S_Ancestral", "dpmpp_2s_ancestral"),
    sampler("SamplerDPMPP_3M_SDE", "dpmpp_3m_sde", noise_device="cpu"),
    sampler("SamplerDPMPP_SDE", "dpmpp_sde", noise_device="cpu"),
    sampler("SamplerER_SDE", "er_sde"),
    sampler("SamplerLMS", "lms"),
    sampler("SamplerLCM", "lcm"),
    sampler("SamplerSASolver", "sa_solver"),
    sampler("SamplerSEEDS2", "seeds_2"),
    row("SamplerLCMUpscale", ksampler("lcm", 1), draw={"steps": 1}, scale_ratio=1.0),
    row("SamplerLCMUpscale", holds("a picture of twice the size", upscaled), label="twice", scale_ratio=2.0),
    row("SamplerARVideo", foreign("autoregressive Wan")),
    row("VOIDSampler", foreign("VOID")),
    # Schedules
    row("BasicScheduler", gives("4t / (1 + 3t)", lambda w, i: torch.tensor([1.0, 0.8, 0.0])), scheduler="simple",
        steps=2),
    *[row("BasicScheduler", holds("from 1 down to 0, and a picture", falling), label=name, scheduler=name, steps=8)
      for name in ("sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic",
                   "kl_optimal")],
    row("BetaSamplingScheduler", holds("from 1 down to 0, and a picture", falling), steps=8),
    row("KarrasScheduler", holds("from 1 down to 0, and a picture", falling), steps=8, **FLOW),
    row("ExponentialScheduler", holds("from 1 down to 0, and a picture", falling), steps=8, **FLOW),
    row("PolyexponentialScheduler", holds("from 1 down to 0, and a picture", falling), steps=8, **FLOW),
    row("LaplaceScheduler", holds("from 1 down to 0, and a picture", falling), steps=8, **FLOW),
    row("Flux2Scheduler", holds("from 1 down to 0, and a picture", falling), steps=8),
    row("LTXVScheduler", holds("from 1 down to 0, and a picture", falling), steps=8, latent=lambda w: w.part("LATENT")),
    row("OptimalStepsScheduler", holds("from 1 down to 0, and a picture", falling), model_type="Wan", steps=10),
    row("Ideogram4Scheduler", foreign("Ideogram 4")),
    row("AlignYourStepsScheduler", foreign("SD and SVD, whose noise goes to 14")),
    row("GITSScheduler", foreign("SD, whose noise goes to 14")),
    row("SDTurboScheduler", foreign("SD Turbo")),
    row("VPScheduler", foreign("variance-preserving models")),
    # Of noise levels
    row("FlipSigmas", gives("the levels the other way round, none of them 0", lambda w, i: torch.cat(
        [torch.tensor([0.0001]), i["sigmas"].flip(0)[1:]]))),
    row("ManualSigmas", gives("its numbers", lambda w, i: torch.tensor([1.0, 0.5, 0.0])), sigmas="1, 0.5, 0"),
    row("SetFirstSigma", gives("another first level", lambda w, i: torch.cat([torch.tensor([0.9]), i["sigmas"][1:]])),
        sigma=0.9),
    row("SplitSigmas", holds("the parts draw the whole", same_path), step=1),
    row("SplitSigmasDenoise", holds("the parts draw the whole", same_path), denoise=0.5),
    row("ExtendIntermediateSigmas", holds("from 1 down to 0, and a picture", falling), start_at_sigma=1.0,
        end_at_sigma=0.0),
    row("SamplingPercentToSigma", holds("4t / (1 + 3t)", shifted), sampling_percent=0.5),
]  # fmt: skip
