"""The one-box nodes honour the MODEL they are given: its shift, its guidance; of what they cannot, they tell."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from helpers import INSTRUCTION, PROMPT, SEED, SETTINGS, SIDE, STEPS, close, empty, ksampler, part, source, tensor

GUIDING = {  # nodes that change CFG, or its result, and that act on a DiT
    "RescaleCFG": {"multiplier": 0.7},
    "SkipLayerGuidanceDiT": {
        "double_layers": "1", "single_layers": "", "scale": 3.0, "start_percent": 0.0, "end_percent": 1.0,
        "rescaling_scale": 0.0,
    },
    "SkipLayerGuidanceDiTSimple": {
        "double_layers": "1", "single_layers": "", "start_percent": 0.0, "end_percent": 1.0,
    },
    "APG": {"eta": 0.5, "norm_threshold": 5.0, "momentum": 0.0},
    "CFGNorm": {"strength": 1.0},
    "CFGZeroStar": {},
    "TCFG": {},
    "Mahiro": {},
}  # fmt: skip


def generate(host: Any, model: Any, loaded: Any, **changed: Any) -> torch.Tensor:
    """Latents that LightBagel Generate draws."""
    settings = {**SETTINGS, "prompt": PROMPT, "width": SIDE, "height": SIDE, "batch_size": 1, **changed}
    return host("LightBagelGenerate", model, *loaded[1:], **settings)[1]["samples"]


def edit(host: Any, model: Any, loaded: Any, **changed: Any) -> torch.Tensor:
    """Latents that LightBagel Edit draws, with both guidances."""
    settings = {**SETTINGS, "images": {"image0": tensor(source())}, "instruction": INSTRUCTION, "image_guidance": 1.5}
    return host("LightBagelEdit", model, *loaded[1:], **{**settings, **changed})[1]["samples"]


@pytest.fixture
def told(host, caplog):
    """The sentences said in the log, as if none had been said before."""
    part(host, "say").once.cache_clear()
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if "LightBagel" in record.getMessage()]


def test_a_shift_that_is_set_on_the_model(host, loaded, told):
    """It counts where the node's own is left as trained; any other of the node's wins, and that is said once."""
    shifted = host("ModelSamplingSD3", loaded[0], 8.0)
    by_hand = generate(host, loaded[0], loaded, shift=8.0)
    assert torch.equal(generate(host, shifted, loaded), by_hand)
    assert not close(generate(host, loaded[0], loaded), by_hand)
    assert not told()
    own = generate(host, loaded[0], loaded, shift=6.0)
    assert not told()
    for _ in range(2):
        assert torch.equal(generate(host, shifted, loaded, shift=6.0), own)
    assert told() == ["LightBagel: the node's shift of 6 is used, not the 8 that is set on its MODEL"]


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("ModelSamplingDiscrete", {"sampling": "eps", "zsnr": False}),
        ("ModelSamplingAuraFlow", {"shift": 1.73}),
        ("ModelSamplingFlux", {"max_shift": 1.15, "base_shift": 0.5, "width": 128, "height": 128}),
        ("ModelSamplingContinuousEDM", {"sampling": "edm", "sigma_max": 120.0, "sigma_min": 0.002}),
        ("ModelSamplingStableCascade", {"shift": 2.0}),
    ],
)
def test_another_kind_of_model_is_refused(host, loaded, prompts, node, inputs):
    """It would draw noise, in KSampler as in one box."""
    changed = host(node, model=loaded[0], **inputs)
    with pytest.raises(ValueError, match=r"the MODEL's sampling \(.*leave out the ModelSampling node"):
        ksampler(host, changed, prompts)
    with pytest.raises(ValueError, match="leave out the ModelSampling node"):
        generate(host, changed, loaded)


@pytest.mark.parametrize("node", GUIDING)
def test_what_changes_cfg_acts_as_in_a_stock_run(host, loaded, prompts, told, node):
    """The same latents as SamplerCustomAdvanced with CFGGuider makes from the same times and steps."""
    if node not in host.mappings:
        pytest.skip(f"this ComfyUI has no {node}")
    changed = host(node, model=loaded[0], **GUIDING[node])
    run, sigmas = part(host, "guider").sampler("euler", STEPS, 4.0)
    stock = host(
        "SamplerCustomAdvanced",
        noise=host("RandomNoise", noise_seed=SEED),
        guider=host("CFGGuider", model=changed, positive=prompts[0], negative=prompts[1], cfg=2.0),
        sampler=run,
        sigmas=sigmas,
        latent_image=empty(),
    )[0]["samples"]
    drawn = generate(host, changed, loaded)
    assert close(drawn, stock)
    assert not close(drawn, generate(host, loaded[0], loaded))
    assert not told()


def test_beside_image_guidance(host, loaded, told):
    """There what sees CFG's result acts; what is CFG itself does not, and that is said once, by name."""
    plain = edit(host, loaded[0], loaded)
    skipped = host("SkipLayerGuidanceDiT", model=loaded[0], **GUIDING["SkipLayerGuidanceDiT"])
    assert not close(edit(host, skipped, loaded), plain)
    assert not told()
    rescaled = host("RescaleCFG", model=loaded[0], multiplier=0.7)
    for _ in range(2):
        assert close(edit(host, rescaled, loaded), plain)
    (sentence,) = told()
    assert "RescaleCFG on the MODEL (another CFG) does not act" in sentence


def test_a_guidance_of_the_host_outside_the_interval(host, loaded):
    """Between guidance_from and guidance_to alone: outside, a patch is given an unguided step, as KSampler at cfg 1."""
    seen: list[float] = []
    model = loaded[0].clone()
    model.set_model_sampler_post_cfg_function(lambda args: seen.append(args["cond_scale"]) or args["denoised"])
    generate(host, model, loaded, guidance_from=0.9)
    assert seen[0] == 1.0
    assert seen[-1] == 2.0
    assert len(seen) == STEPS
    seen.clear()
    edit(host, model, loaded, guidance_from=0.9)
    assert (seen[0], seen[-1], len(seen)) == (1.0, 2.0, STEPS)
