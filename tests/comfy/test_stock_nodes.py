"""ComfyUI's own nodes on our MODEL and CONDITIONING: each as with a native model."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from itertools import pairwise
from typing import Any

import pytest
import torch
from conftest import PACK
from helpers import (
    CELLS,
    INSTRUCTION,
    PROMPT,
    SEED,
    SIDE,
    STEPS,
    close,
    empty,
    fusion_of,
    ksampler,
    pixels,
    psnr,
    source,
    tensor,
)
from PIL import Image
from safetensors.torch import save_file

SAME = 45.0  # dB


def custom(host, model, guider, latent=None) -> torch.Tensor:
    """Latents of a stock SamplerCustomAdvanced."""
    return host(
        "SamplerCustomAdvanced",
        noise=host("RandomNoise", noise_seed=SEED),
        guider=guider,
        sampler=host("KSamplerSelect", sampler_name="euler"),
        sigmas=host("BasicScheduler", model=model, scheduler="simple", steps=STEPS, denoise=1.0),
        latent_image=latent or empty(),
    )[0]["samples"]


def test_custom_sampling_is_ksampler(host, loaded, prompts):
    model = loaded[0]
    guider = host("CFGGuider", model=model, positive=prompts[0], negative=prompts[1], cfg=2.0)
    assert close(custom(host, model, guider), ksampler(host, model, prompts))


def test_dual_cfg_guider_is_text_then_image_guidance(host, loaded, core):
    model, clip, vae = loaded
    images = {"image0": tensor(source())}
    full = host("LightBagelTextEncode", clip, INSTRUCTION, vae=vae, images=images)
    no_text = host("LightBagelTextEncode", clip, "", vae=vae, images=images)
    no_image = host("LightBagelTextEncode", clip, INSTRUCTION)
    guider = host(
        "DualCFGGuider", model=model, cond1=full, cond2=no_text, negative=no_image,
        cfg_conds=2.0, cfg_cond2_negative=1.5, style="nested",
    )  # fmt: skip
    image = host("VAEDecode", vae, {"samples": custom(host, model, guider)})
    ours = core.edit(
        source(), INSTRUCTION, seed=SEED, steps=STEPS, text_guidance=2.0, image_guidance=1.5, solver="euler",
        progress=False,
    )  # fmt: skip
    assert psnr(pixels(image), ours[0]) > SAME


def test_model_sampling_sd3_shifts_and_ours_is_four(host, loaded, prompts):
    model = loaded[0]
    plain = ksampler(host, model, prompts)
    assert torch.equal(plain, ksampler(host, host("ModelSamplingSD3", model, 4.0), prompts))
    assert not close(plain, ksampler(host, host("ModelSamplingSD3", model, 8.0), prompts))


def test_a_wan_lora(host, loaded, prompts, core, tmp_path):
    """A LoRA in the original names changes the picture as the same change of the DiT's weights does."""
    from folder_paths import add_model_folder_path

    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(shape, generator=generator) * 0.6 for shape in ((4, 640), (256, 4)))
    name = "diffusion_model.blocks.2.ffn.2"
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, tmp_path / "wan.safetensors")
    add_model_folder_path("loras", str(tmp_path))
    model = host("LoraLoaderModelOnly", model=loaded[0], lora_name="wan.safetensors", strength_model=1.0)
    image = host("VAEDecode", loaded[2], {"samples": ksampler(host, model, prompts)})
    weight = core.gen.blocks[2].ffn.net[2].weight
    kept = weight.clone()
    weight += up @ down
    try:
        ours = core.generate(PROMPT, seed=SEED, steps=STEPS, text_guidance=2.0, solver="euler", progress=False)
    finally:
        weight.copy_(kept)
    without = core.generate(PROMPT, seed=SEED, steps=STEPS, text_guidance=2.0, solver="euler", progress=False)
    assert psnr(pixels(image), ours[0]) > SAME
    assert psnr(pixels(image), without[0]) < SAME - 10


def test_a_batch_is_its_pictures(host, loaded, prompts):
    """Of a batch the first picture has the noise that a single one has."""
    model = loaded[0]
    batch = ksampler(host, model, prompts, empty(3))
    assert batch.shape == (3, 48, CELLS, CELLS)
    assert close(batch[:1], ksampler(host, model, prompts))
    assert not close(batch[:1], batch[1:2])


def test_img2img_starts_from_the_picture(host, loaded, prompts, core):
    """denoise 0.5, by hand: noise the latents to the first sigma, then Euler with the core's velocity."""
    model, _, vae = loaded
    latent = host("VAEEncode", pixels=tensor(source()), vae=vae)
    samples = ksampler(host, model, prompts, latent, denoise=0.5, cfg=1.0)
    sigmas = host("BasicScheduler", model=model, scheduler="simple", steps=STEPS, denoise=0.5)
    context = core.encode([[core.text(PROMPT)]], SIDE, SIDE)
    noise = torch.randn(1, 48, CELLS, CELLS, generator=torch.Generator().manual_seed(SEED))
    x = sigmas[0] * noise + (1 - sigmas[0]) * core.clean(source()).latents[None]
    for here, after in pairwise(sigmas):
        x = x + (after - here) * core.velocity(x, float(here), context)
    assert psnr(pixels(host("VAEDecode", vae, {"samples": samples})), core.decode(x)[0]) > SAME


def test_where_comfyui_streams_weights_a_static_copy_draws_the_same(host, loaded, prompts):
    """TorchCompileModel and hooks ask for such a copy when dynamic VRAM is on; ComfyUI loads Wan anew for it."""
    model = loaded[0]
    if "disable_dynamic" not in signature(model.clone).parameters:
        pytest.skip("this ComfyUI has no dynamic VRAM")
    streamed = model.clone()
    streamed.is_dynamic = lambda: True
    copy = streamed.clone(disable_dynamic=True)
    assert copy.model is not model.model
    assert close(ksampler(host, copy, prompts), ksampler(host, model, prompts))


def bare_wan(loaded: Any) -> Any:
    """The nano's Wan as a loader that knows nothing of LightBagel would give it: a plain WAN22 MODEL."""
    bare = loaded[0].clone()
    for kind in list(bare.wrappers):
        bare.remove_wrappers_with_key(kind, "lightbagel")
    bare.remove_additional_models("lightbagel")
    bare.object_patches.clear()
    return bare


@pytest.mark.parametrize("applied", [False, True])
def test_an_inpainting_mask(host, loaded, prompts, core, applied):
    """As for one picture, not as Wan2.2's for video: each step sees the kept part at the step's own noise."""
    model, _, vae = loaded
    if applied:
        model = host("LightBagelApplyFusion", model=bare_wan(loaded), fusion="nano (built in)")
    latent = host("VAEEncode", pixels=tensor(source()), vae=vae)["samples"]
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, 64:] = 1
    masked = host("SetLatentNoiseMask", {"samples": latent}, mask)
    samples = ksampler(host, model, prompts, masked, cfg=1.0)
    assert torch.allclose(samples[..., :3], latent[..., :3], atol=1e-4)
    context = core.encode([[core.text(PROMPT)]], SIDE, SIDE)
    noise = torch.randn(1, 48, CELLS, CELLS, generator=torch.Generator().manual_seed(SEED))
    clean, free = core.clean(source()).latents[None], torch.zeros(1, 1, CELLS, CELLS)
    free[..., 4:] = 1
    x = noise
    for here, after in pairwise(host("BasicScheduler", model=model, scheduler="simple", steps=STEPS, denoise=1.0)):
        seen = x * free + (here * noise + (1 - here) * clean) * (1 - free)
        denoised = (seen - here * core.velocity(seen, float(here), context)) * free + clean * (1 - free)
        x = x + (after - here) * (x - denoised) / here
    assert psnr(pixels(host("VAEDecode", vae, {"samples": samples})), core.decode(x)[0]) > SAME


def test_combined_conditionings_are_averaged(host, loaded, prompts, core):
    model, clip, vae = loaded
    other = "a large green star on the right on a black background"
    both = host("ConditioningCombine", prompts[0], host("CLIPTextEncode", clip, other))
    samples = ksampler(host, model, (both, prompts[1]), steps=1, cfg=1.0)
    context = core.encode([[core.text(PROMPT)], [core.text(other)]], SIDE, SIDE)
    noise = torch.randn(1, 48, CELLS, CELLS, generator=torch.Generator().manual_seed(SEED))
    velocity = core.velocity(noise.repeat(2, 1, 1, 1), 1.0, context).mean(0, keepdim=True)
    assert psnr(pixels(host("VAEDecode", vae, {"samples": samples})), core.decode(noise - velocity)[0]) > SAME


def test_an_area_keeps_each_sides_prompt(host, loaded, prompts):
    """The negative that ComfyUI makes up for an area is the negative: as if it had been given the same area by hand."""
    positive, negative = prompts

    def area(cond: Any) -> Any:
        return host("ConditioningSetArea", cond, 64, SIDE, 0, 0, 1.0)

    by_hand = host("ConditioningCombine", area(negative), negative)
    both = host("ConditioningCombine", area(positive), positive)
    assert close(ksampler(host, loaded[0], (both, negative)), ksampler(host, loaded[0], (both, by_hand)))


def test_a_timestep_range_switches_prompts(host, loaded, prompts):
    model, clip, _ = loaded
    other = host("CLIPTextEncode", clip, "a large green star on the right on a black background")

    def between(cond: Any, start: float, end: float) -> Any:
        return host("ConditioningSetTimestepRange", cond, start, end)

    whole = host("ConditioningCombine", between(prompts[0], 0.0, 1.0), between(other, 1.0, 1.0))
    halves = host("ConditioningCombine", between(prompts[0], 0.0, 0.5), between(other, 0.5, 1.0))
    plain = ksampler(host, model, prompts)
    assert close(ksampler(host, model, (whole, prompts[1])), plain)
    mixed = ksampler(host, model, (halves, prompts[1]))
    assert not close(mixed, plain)
    assert not close(mixed, ksampler(host, model, (other, prompts[1])))


def test_block_replacements_and_attention_overrides_of_others_act(host, loaded, prompts):
    """What another node puts in a block's place runs, before our layer; the person's choice of attention is ours."""
    model, plain, asked = loaded[0], ksampler(host, loaded[0], prompts), []

    def attention(stock: Any, q: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        asked.append(q.ndim)
        return stock(q, *args, **kwargs)

    chosen = model.clone()
    chosen.model_options["transformer_options"]["optimized_attention_override"] = attention
    assert close(ksampler(host, chosen, prompts, steps=1), ksampler(host, model, prompts, steps=1))
    assert asked.count(4) >= fusion_of(chosen).config.layers  # ours come in heads
    skipping = model.clone()
    skipping.set_model_patch_replace(lambda args, extra: {"img": args["img"]}, "dit", "double_block", 2)
    assert not close(ksampler(host, skipping, prompts), plain)
    once = model.clone()
    once.set_model_patch_replace(lambda args, extra: extra["original_block"](args), "dit", "double_block", 2)
    assert close(ksampler(host, once, prompts), plain)


def test_a_batch_through_the_vae_is_several_pictures(host, loaded):
    batch = torch.cat([tensor(source(colour)) for colour in ("red", "green", "yellow")])
    latent = host("VAEEncode", pixels=batch, vae=loaded[2])
    assert latent["samples"].shape[0] == 3
    images = host("VAEDecode", loaded[2], latent)
    for image, picture in zip(images.reshape(3, 1, SIDE, SIDE, 3), batch, strict=True):
        assert psnr(pixels(image), pixels(picture[None])) > 20


@pytest.mark.parametrize("change", ["zeroed", "averaged"])
def test_a_changed_conditioning_is_another_one(host, loaded, prompts, monkeypatch, change):
    """Nodes change the tensor and keep what stands beside it; a shared forward must see the change as well."""
    positive = prompts[0]
    if change == "zeroed":
        negative = host("ConditioningZeroOut", positive)
    else:
        other = host("CLIPTextEncode", loaded[1], "a blue star right of a red circle")
        negative = host("ConditioningAverage", positive, other, 0.5)
    together = ksampler(host, loaded[0], (positive, negative))
    assert not close(together, ksampler(host, loaded[0], (positive, positive)))
    conditioning = import_module(f"{host.mappings['LightBagelLoader'].__module__.rpartition('.')[0]}.host.conditioning")
    monkeypatch.setattr(conditioning.Rows, "can_concat", lambda *_: False)
    assert close(ksampler(host, loaded[0], (positive, negative)), together)


def test_stacked_conditionings_are_several(host, loaded, prompts):
    """Packs for batches of prompts stack the tensors of several and keep what stands beside the first."""
    other = host("CLIPTextEncode", loaded[1], "a blue star right of a red circle")
    (first, beside), (second, _) = prompts[0][0], other[0]
    twice, both = ([[torch.cat(pair), beside]] for pair in ((first, first), (first, second)))
    same, mixed = (ksampler(host, loaded[0], (stack, prompts[1]), empty(2)) for stack in (twice, both))
    assert close(same[0], mixed[0])
    assert not close(same[1], mixed[1])


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "res_multistep", "gradient_estimation"])
def test_a_cfg_pp_sampler_is_the_plain_one_where_nothing_guides(host, loaded, prompts, sampler):
    """Where both prompts are one, what CFG++ takes from the negative is the positive's."""
    alike = (prompts[0], prompts[0])
    plain, other = (
        ksampler(host, loaded[0], alike, sampler_name=name, cfg=1.0) for name in (sampler, f"{sampler}_cfg_pp")
    )
    assert close(plain, other)
    assert not close(other, ksampler(host, loaded[0], prompts, sampler_name=f"{sampler}_cfg_pp", cfg=1.0))


def test_easy_cache_skips_forwards(host, loaded, prompts, monkeypatch):
    """It sees our forwards as it sees a native model's: none skipped changes nothing, some skipped are not computed.

    In float32 too, where what it adds to its input must not reach the sampler's latents: then no picture is left.
    """
    model, _, vae = loaded
    wan, forwards = type(model.model.diffusion_model), []
    forward = wan.forward_orig
    monkeypatch.setattr(wan, "forward_orig", lambda *args, **kwargs: forwards.append(1) or forward(*args, **kwargs))

    def cached(threshold: float) -> tuple[torch.Tensor, int]:
        forwards.clear()
        settings = {"start_percent": 0.15, "end_percent": 0.95, "verbose": False}
        patched = host("EasyCache", model=model, reuse_threshold=threshold, **settings)
        return ksampler(host, patched, prompts, steps=20), len(forwards)

    never, all_steps = cached(0.0)
    assert all_steps == 20
    plain = ksampler(host, model, prompts, steps=20)
    assert torch.equal(never, plain)
    some, fewer = cached(0.05)
    assert fewer < 15
    assert psnr(*(pixels(host("VAEDecode", vae, {"samples": samples})) for samples in (some, plain))) > 35


def test_a_plain_wan_model_becomes_ours(host, loaded, prompts):
    """ApplyFusion onto the bare Wan of the same weights gives what the loader gives; without it a person is told."""
    bare = bare_wan(loaded)
    shifted = host("LightBagelApplyFusion", model=host("ModelSamplingSD3", bare, 8.0), fusion="nano (built in)")
    assert shifted.get_model_object("model_sampling").shift == 8.0  # somebody chose it
    own = bare.get_model_object("model_sampling")
    own.set_parameters(shift=8.0)  # as Wan2.2 comes
    try:
        model = host("LightBagelApplyFusion", model=bare, fusion="nano (built in)")
        drawn = ksampler(host, model, prompts)
    finally:
        own.set_parameters(shift=4.0)
    assert close(drawn, ksampler(host, loaded[0], prompts))
    with pytest.raises(ValueError, match="the MODEL does not listen to it"):
        ksampler(host, bare, prompts)


def test_a_node_that_puts_a_wan_of_its_own_in_place(host, loaded, prompts):
    """RES4LYF's ReWan nodes change the class of the model by an object patch; what they put there calls no hooks."""

    class Another(torch.nn.Module):
        def forward(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            return x

    model = loaded[0].clone()
    model.add_object_patch("diffusion_model.__class__", Another)
    with pytest.raises(ValueError, match="another node on this MODEL has put Another of its own"):
        ksampler(host, model, prompts)
    assert bool(torch.isfinite(ksampler(host, loaded[0], prompts)).all())


def test_a_node_that_calls_the_model_with_several_tiles_at_once(host, loaded, prompts):
    """Tiled samplers put tiles of a picture one after another into a batch, each with all of its prompts."""
    lengths = []

    def tiled(apply_model: Any, args: dict[str, Any]) -> torch.Tensor:
        x, t, c = args["input"], args["timestep"], args["c"]
        lengths.append(len(x))
        return apply_model(torch.cat([x.flip(-1), x, x]), t.repeat(3), **c).chunk(3)[1]

    model = loaded[0].clone()
    model.set_model_unet_function_wrapper(tiled)
    assert close(ksampler(host, model, prompts), ksampler(host, loaded[0], prompts))
    assert set(lengths) == {2}

    def odd(apply_model: Any, args: dict[str, Any]) -> torch.Tensor:
        x, t = args["input"], args["timestep"]
        return apply_model(torch.cat([x, x[:1]]), t.new_ones(3), **args["c"])[:2]

    model.set_model_unet_function_wrapper(odd)
    with pytest.raises(ValueError, match="with 3 latents for 2 prompts"):
        ksampler(host, model, prompts)


def test_fusion_onto_fp8_weights(host, loaded, prompts):
    """A MODEL stored in fp8 by ComfyUI's own layers listens too; what fp8 costs is its own."""
    load = import_module(f"{host.mappings['LightBagelLoader'].__module__.rpartition('.')[0]}.host.load")
    small = load.load_generation(load.Files(PACK / "lightbagel_core" / "nano"), torch.float16)
    for name, weight in small.model.diffusion_model.named_parameters():
        if name.startswith("blocks.") and weight.ndim == 2:
            weight.data = weight.data.to(torch.float8_e4m3fn)
    assert small.model.diffusion_model.blocks[0].ffn[0].weight.dtype == torch.float8_e4m3fn
    model = host("LightBagelApplyFusion", model=small, fusion="nano (built in)")
    images = [pixels(host("VAEDecode", loaded[2], {"samples": ksampler(host, m, prompts)})) for m in (model, loaded[0])]
    assert psnr(*images) > 20


def test_a_compiled_model(host, loaded, prompts):
    """TorchCompileModel: the same picture, and a second run compiles nothing."""
    from torch._dynamo.utils import counters

    compiled = host("TorchCompileModel", model=loaded[0], backend="inductor")
    plain = ksampler(host, loaded[0], prompts)
    assert close(ksampler(host, compiled, prompts), plain)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    assert not close(ksampler(host, compiled, prompts, seed=SEED + 1), plain)
    assert counters["stats"]["unique_graphs"] == graphs


def test_previews_have_the_pictures_colours(host, loaded, prompts):
    """The preview of a drawn picture's latents is the picture, 16 times smaller."""
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod, args

    model, _, vae = loaded
    samples = ksampler(host, model, prompts, steps=20)
    args.preview_method, kept = LatentPreviewMethod.Auto, args.preview_method
    try:
        previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    finally:
        args.preview_method = kept
    preview = previewer.decode_latent_to_preview(model.model.process_latent_in(samples))
    picture = Image.fromarray(pixels(host("VAEDecode", vae, {"samples": samples})))
    assert psnr(preview, picture.resize((CELLS, CELLS), Image.Resampling.BOX)) > 15
