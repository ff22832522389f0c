"""The command line's picture and ComfyUI's are one picture."""

from __future__ import annotations

import pytest
import torch
from helpers import INSTRUCTION, PROMPT, SEED, SETTINGS, SIDE, STEPS, empty, pixels, psnr, source, tensor

SAME = 45.0  # dB


@pytest.mark.parametrize("solver", ["euler", "unipc", "dpm++"])
def test_generate(host, loaded, core, solver):
    image, _ = host(
        "LightBagelGenerate",
        *loaded,
        prompt=PROMPT,
        width=SIDE,
        height=64,
        batch_size=1,
        **SETTINGS | {"solver": solver},
    )
    ours = core.generate(
        PROMPT, width=SIDE, height=64, seed=SEED, steps=STEPS, text_guidance=2.0, solver=solver, progress=False
    )
    assert image.shape == (1, 64, SIDE, 3)
    assert psnr(pixels(image), ours[0]) > SAME


@pytest.mark.parametrize(
    ("solver", "image_guidance", "renorm", "interval"),
    [
        ("euler", 1.0, "none", (0.0, 1.0)),
        ("unipc", 1.5, "none", (0.0, 1.0)),
        ("unipc", 2.0, "text_channel", (0.7, 1.0)),
        ("euler", 2.0, "global", (0.0, 0.9)),
    ],
)
def test_edit(host, loaded, core, solver, image_guidance, renorm, interval):
    changed = {"solver": solver, "renorm": renorm, "guidance_to": interval[0], "guidance_from": interval[1]}
    image, _ = host(
        "LightBagelEdit",
        *loaded,
        images={"image1": tensor(source())},
        instruction=INSTRUCTION,
        image_guidance=image_guidance,
        **SETTINGS | changed,
    )
    ours = core.edit(
        source(), INSTRUCTION, seed=SEED, steps=STEPS, text_guidance=2.0, solver=solver, renorm=renorm,
        image_guidance=image_guidance, guidance_interval=interval, progress=False,
    )  # fmt: skip
    assert psnr(pixels(image), ours[0]) > SAME


@pytest.mark.parametrize("dtype", ["default", "bfloat16", "float16"])
def test_weight_dtypes(host, core, dtype):
    """Half precision costs little; the VLM's states and the fusion's keys are made in float32 from them."""
    parts = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype=dtype)
    assert parts[1].cond_stage_model.und.vlm.dtype != torch.float16  # Qwen overflows in it
    image, _ = host(
        "LightBagelEdit", *parts, images={"image0": tensor(source())}, instruction=INSTRUCTION, image_guidance=1.0,
        **SETTINGS,
    )  # fmt: skip
    ours = core.edit(source(), INSTRUCTION, seed=SEED, steps=STEPS, text_guidance=2.0, solver="euler", progress=False)
    assert psnr(pixels(image), ours[0]) > 40


def test_several_sources_of_different_sizes(host, loaded, core):
    pictures = [source(), source("green", (96, 64)), source("yellow", (64, 96))]
    image, _ = host(
        "LightBagelEdit",
        *loaded,
        images={f"image{i}": tensor(p) for i, p in enumerate(pictures)},
        instruction=INSTRUCTION,
        image_guidance=1.0,
        **SETTINGS,
    )
    ours = core.edit(pictures, INSTRUCTION, seed=SEED, steps=STEPS, text_guidance=2.0, solver="euler", progress=False)
    assert psnr(pixels(image), ours[0]) > SAME


def test_the_composed_path(host, loaded, core):
    """Stock nodes only, but for the loader. KSampler's "simple" grid starts at 1 where ours starts at 0.999."""
    model, clip, vae = loaded
    samples = host(
        "KSampler", model, SEED, STEPS, 2.0, "euler", "simple",
        host("CLIPTextEncode", clip, PROMPT), host("CLIPTextEncode", clip, ""), empty(),
    )  # fmt: skip
    ours = core.generate(PROMPT, seed=SEED, steps=STEPS, text_guidance=2.0, solver="euler", progress=False)
    assert psnr(pixels(host("VAEDecode", vae, samples)), ours[0]) > SAME


@pytest.mark.parametrize("question", ["Describe the image", "what colour is the circle?"])
def test_describe(host, loaded, core, question):
    text = host(
        "LightBagelDescribe",
        loaded[1],
        image=tensor(source()),
        question=question,
        max_length=64,
        sampling_mode={"sampling_mode": "off"},
    )
    assert text == core.describe(source(), question)
