"""What we need of ComfyUI: a test for each of its rows in docs/hosts.md. They run before all others (see conftest.py).

They take a ComfyUI without the pack, so that they say what changed where the pack can no longer be loaded.
"""

from __future__ import annotations

import gc
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PACK, use_comfyui
from torch import Tensor, nn

sys.path.append(str(PACK / "tests"))
from contracts import Broken, has, hold, module, order, row, takes


@pytest.fixture(autouse=True, scope="module")
def _comfyui() -> Iterator[None]:
    """Gives up the models at the end: ComfyUI takes one that outlives its patchers for a leak."""
    use_comfyui()
    yield
    wan.cache_clear()
    base.cache_clear()
    gc.collect()
    module("comfy.model_management").cleanup_models()


@cache
def wan() -> Any:
    """A tiny Wan of ComfyUI's."""
    kind = module("comfy.ldm.wan.model", "WanModel").WanModel
    sizes = {"dim": 64, "num_heads": 2, "num_layers": 2, "ffn_dim": 48, "freq_dim": 32, "text_dim": 24}
    more = {"model_type": "t2v", "patch_size": (1, 2, 2), "in_dim": 8, "out_dim": 8, "cross_attn_norm": True}
    takes(kind.__init__, *sizes, *more, "image_model", "eps", "device", "operations")
    place = {"device": "cpu", "dtype": torch.float32, "operations": module("comfy.ops").manual_cast}
    made = kind(**sizes, **more, image_model="wan2.1", eps=1e-6, **place)
    return filled(made)


def filled(model: Any) -> Any:
    """A model with weights drawn by chance."""
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.1)
    return model.eval().requires_grad_(False)


def draw(options: dict[str, Any] | None = None, **more: Any) -> Tensor:
    """What the tiny Wan makes of one latent."""
    latent, context = torch.linspace(-1, 1, 192).reshape(1, 8, 1, 4, 6), torch.linspace(-1, 1, 120).reshape(1, 5, 24)
    return wan()(latent, torch.tensor([300.0]), context, None, None, options or {}, **more)


def description() -> Any:
    """What ComfyUI knows of a tiny Wan2.2."""
    kind = module("comfy.supported_models", "WAN22_T2V").WAN22_T2V
    sizes = {"dim": 64, "num_heads": 2, "num_layers": 2, "ffn_dim": 48, "freq_dim": 32, "text_dim": 24, "in_dim": 48}
    return kind({**sizes, "image_model": "wan2.1", "model_type": "t2v", "patch_size": (1, 2, 2), "out_dim": 48})


@cache
def base() -> Any:
    """The tiny Wan2.2 as ComfyUI's samplers know it."""
    found = description()
    found.set_inference_dtype(torch.float32, None)
    return filled(module("comfy.model_base", "WAN22").WAN22(found, device=torch.device("cpu")))


def sample(model: Any, **conditioning: Any) -> Tensor:
    """One step of a run of a MODEL."""
    samplers = module("comfy.samplers", "CFGGuider", "sampler_object")
    guider = samplers.CFGGuider(model)
    text = torch.linspace(-1, 1, 120).reshape(1, 5, 24)
    guider.inner_set_conds({"positive": [[text, conditioning]], "negative": [[text * 2, conditioning]]})
    guider.set_cfg(2.0)
    latent, sigmas = torch.zeros(1, 48, 1, 4, 4), torch.tensor([1.0, 0.5])
    with torch.inference_mode():
        return guider.sample(torch.ones_like(latent), latent, samplers.sampler_object("euler"), sigmas, seed=0)


def patcher(model: nn.Module | None = None) -> Any:
    kind = module("comfy.model_patcher", "ModelPatcher").ModelPatcher
    cpu = torch.device("cpu")
    return kind(nn.Linear(1, 1) if model is None else model, load_device=cpu, offload_device=cpu)


# --- what we change --------------------------------------------------------------------------------------------------


@row("comfyui-01")
def test_the_vaes_class_is_looked_up_when_a_vae_is_built(monkeypatch):
    """VAE builds its Wan2.2 VAE from comfy.ldm.wan.vae2_2.WanVAE, looked up then, with sizes that may be replaced."""
    vae2_2, sd = module("comfy.ldm.wan.vae2_2", "WanVAE"), module("comfy.sd", "VAE")
    sizes = ("dim", "dec_dim", "z_dim", "dim_mult", "num_res_blocks", "temperal_downsample")
    takes(vae2_2.WanVAE.__init__, *sizes)
    given: list[set[str]] = []

    class Reached(BaseException):
        pass

    def watched(**fixed: Any) -> None:
        given.append(set(fixed))
        raise Reached

    monkeypatch.setattr(vae2_2, "WanVAE", watched)
    marks = ("decoder.middle.0.residual.0.gamma", "decoder.upsamples.0.upsamples.0.residual.2.weight")
    with pytest.raises(Reached):
        sd.VAE(sd={name: torch.zeros(1) for name in marks})
    hold("z_dim" in given[0], f"a Wan2.2 VAE is built from {sorted(given[0])}, without z_dim")


@row("comfyui-40")
def test_a_vae_is_told_how_many_axes_its_latents_have(monkeypatch):
    """A VAE asks its latent_dim, ratios, index formulas and estimates of memory at every use, and its own class."""
    kind = module("comfy.sd", "VAE").VAE
    source = inspect.getsource(kind)
    for name in ("latent_dim", "upscale_ratio", "downscale_ratio", "upscale_index_formula", "downscale_index_formula"):
        hold(f"self.{name}" in source, f"VAE no longer asks for {name}")
    for method in (kind.encode, kind.encode_tiled):
        hold("self.memory_used_encode(" in inspect.getsource(method), f"{method.__name__} estimates memory otherwise")
        order(method, "pixel_samples")
    for method, name in ((kind.decode, "samples_in"), (kind.decode_tiled, "samples")):
        hold("self.memory_used_decode(" in inspect.getsource(method), f"{method.__name__} estimates memory otherwise")
        order(method, name)
    inner = module("comfy.ldm.wan.vae2_2", "WanVAE").WanVAE
    order(inner.encode, "x")
    order(inner.decode, "z")


@row("comfyui-03")
def test_a_clip_filled_by_hand():
    """CLIP(no_init=True) is empty, and all that a CLIP needs is what its clone copies."""
    kind = module("comfy.sd", "CLIP").CLIP
    takes(kind.__init__, "no_init")
    hold(not vars(kind(no_init=True)), "CLIP(no_init=True) is no longer empty")
    known = {"patcher", "cond_stage_model", "tokenizer", "layer_idx", "tokenizer_options", "use_clip_schedule"}
    copied = set(re.findall(r"\bn\.(\w+) = ", inspect.getsource(kind.clone)))
    strange = sorted(copied ^ (known | {"apply_hooks_to_conds"}))
    hold(not strange, f"a CLIP has other attributes than those that it is given: {', '.join(strange)}")
    hold("is_clip" in vars(patcher()), "ModelPatcher has no is_clip")
    hold("hook_mode" in vars(patcher()), "ModelPatcher has no hook_mode")
    has(module("comfy.hooks", "EnumHookMode").EnumHookMode, "MinVram")


@row("comfyui-04")
def test_a_kept_part_of_a_picture():
    """Masked sampling asks scale_latent_inpaint(x, sigma, noise, latent_image), which Wan2.2 answers as for video."""
    asked: list[set[str]] = []

    class Inner:
        def scale_latent_inpaint(self, **given: Any) -> Tensor:
            asked.append(set(given))
            return given["latent_image"]

    class Model:
        inner_model = Inner()

        def __call__(self, x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
            return x

    run = module("comfy.samplers", "KSamplerX0Inpaint").KSamplerX0Inpaint(Model(), torch.ones(2))
    run.noise = run.latent_image = mask = torch.zeros(1, 1, 2, 2)
    run(mask, torch.ones(1), mask)
    hold(asked == [{"x", "sigma", "noise", "latent_image"}], f"masked sampling asks scale_latent_inpaint with {asked}")
    takes(type(base()).scale_latent_inpaint, "sigma", "noise", "latent_image", "x")
    latent, noise = torch.zeros(1, 48, 1, 2, 2), torch.ones(1, 48, 1, 2, 2)
    kept = base().scale_latent_inpaint(sigma=torch.ones(1), noise=noise, latent_image=latent)
    hold(torch.equal(kept, latent), "Wan2.2 no longer keeps the masked part clean: the object patch may go")
    made = module("comfy.model_sampling", "CONST").CONST().noise_scaling(torch.tensor(0.25), noise, latent)
    hold(torch.allclose(made, noise * 0.25), "CONST.noise_scaling no longer mixes noise and picture by sigma")


@row("comfyui-05")
def test_methods_that_are_covered_for_one_forward(monkeypatch):
    """Wan asks its rotary tables and each layer of its text context once a forward, through the instance."""
    has(wan(), "rope_encode", "text_embedding", "blocks.0.cross_attn.k", "blocks.0.cross_attn.norm_k")
    layers = {"text_embedding": wan().text_embedding}
    for i, each in enumerate(wan().blocks):
        layers |= {f"blocks.{i}.cross_attn.{name}": getattr(each.cross_attn, name) for name in ("k", "norm_k", "v")}
    methods = [(wan(), "rope_encode", "rope_encode"), *((layer, "forward", name) for name, layer in layers.items())]
    counts = dict.fromkeys((name for _, _, name in methods), 0)

    def counting(name: str, before: Any) -> Any:
        def covered(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return before(*args, **kwargs)

        return covered

    for owner, method, name in methods:
        monkeypatch.setitem(vars(owner), method, counting(name, getattr(owner, method)))
    draw()
    other = [f"{name} ({count} times)" for name, count in counts.items() if count != 1]
    hold(not other, f"Wan's forward no longer asks once for {', '.join(other)}")
    takes(type(wan()).rope_encode, "transformer_options")
    hold('"rope_options"' in inspect.getsource(type(wan()).rope_encode), "rope_encode no longer reads rope_options")


@row("comfyui-06")
def test_the_estimate_of_memory(monkeypatch):
    """How much memory a run needs is asked of model.memory_required, through the instance, in prepare_sampling."""
    helpers = module("comfy.sampler_helpers", "estimate_memory")
    asked: list[Any] = []

    def covered(shape: Any, cond_shapes: Any = None) -> int:
        asked.append(shape)
        return 1

    monkeypatch.setitem(vars(base()), "memory_required", covered)
    helpers.estimate_memory(patcher(base()), (1, 48, 1, 4, 4), {})
    hold(asked, "estimate_memory no longer asks model.memory_required")


@row("comfyui-07")
def test_layers_in_the_place_of_transformers():
    """comfy.ops has Linear, Embedding, Conv3d and RMSNorm made like torch's; mixed_precision_ops gives such a set."""
    ops = module("comfy.ops", "manual_cast", "disable_weight_init", "mixed_precision_ops")
    place = {"device": torch.device("cpu"), "dtype": torch.float32}
    mixed = ops.mixed_precision_ops({}, torch.float32, full_precision_mm=True)
    for kinds in (ops.manual_cast, ops.disable_weight_init, mixed):
        has(kinds, "Linear", "Embedding", "Conv3d", "RMSNorm")
        kinds.Linear(2, 3, bias=False, **place)
        kinds.Embedding(4, 2, **place)
        kinds.Conv3d(3, 4, (2, 2, 2), (2, 2, 2), bias=False, **place)
        kinds.RMSNorm(4, eps=1e-6, **place)


@row("comfyui-08")
def test_how_a_model_is_loaded_again():
    """cached_patcher_init is (function, arguments); the function is also called with disable_dynamic=True."""
    has(patcher(), "cached_patcher_init")
    hold(patcher().cached_patcher_init is None, "a new ModelPatcher has a cached_patcher_init already")
    asked: list[Any] = []

    def again(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, kwargs))
        return patcher()

    model = patcher()
    model.cached_patcher_init = (again, ("file", None))
    model.is_dynamic = lambda: True
    model.clone(disable_dynamic=True)
    hold(asked == [(("file", None), {"disable_dynamic": True})], f"a model is loaded again with {asked}")


@row("comfyui-60")
def test_what_a_saved_model_asks():
    """A MODEL is saved by model_config.process_unet_state_dict_for_saving, for which an object patch may stand in."""
    model, asked = patcher(base()), []
    name = "model_config.process_unet_state_dict_for_saving"
    stock = model.get_model_object(name)

    def ours(state: dict[str, Any]) -> dict[str, Any]:
        asked.append(set(state))
        return {**stock(state), "ours": torch.zeros(1)}

    model.add_object_patch(name, ours)
    model.patch_model(load_weights=False)
    saved = model.state_dict_for_saving()
    model.unpatch_model()
    hold(asked, "a MODEL is saved without asking process_unet_state_dict_for_saving of its model_config")
    hold("head.modulation" in asked[0], "process_unet_state_dict_for_saving is no longer given Wan's own names")
    hold("ours" in saved, "what process_unet_state_dict_for_saving gives is not what is saved")
    hold("ours" not in model.state_dict_for_saving(), "an object patch stays when its MODEL is unloaded")


@row("comfyui-61")
def test_a_part_that_a_wan_is_given():
    """What is made a part of a diffusion model is patched, merged, saved, and known to LoRAs by its name."""
    kind = module("comfy.model_base", "WAN22").WAN22
    found = description()
    found.set_inference_dtype(torch.float32, None)
    whole = filled(kind(found, device=torch.device("cpu")))
    whole.diffusion_model.ours = module("comfy.ops").manual_cast.Linear(2, 2, bias=False, device=torch.device("cpu"))
    nn.init.ones_(whole.diffusion_model.ours.weight)
    model, name = patcher(whole), "diffusion_model.ours.weight"
    known = module("comfy.lora", "model_lora_keys_unet").model_lora_keys_unet(whole, {})
    hold(known.get("diffusion_model.ours") == name, "LoRA loaders do not know a part of a diffusion model by its name")
    hold(name in model.get_key_patches("diffusion_model."), "merging nodes do not see a part of a diffusion model")
    hold(model.add_patches({name: (torch.ones(2, 2),)}, 1.0) == [name], "a part of a diffusion model takes no patch")
    hold(
        "model.diffusion_model.ours.weight" in model.state_dict_for_saving(), "a part of a diffusion model is not saved"
    )


# --- hooks -----------------------------------------------------------------------------------------------------------


@row("comfyui-09")
def test_the_four_hooks():
    """WrappersMP has the four hooks; wrappers are added by key and get an executor with class_obj and original."""
    found = module("comfy.patcher_extension", "WrappersMP", "WrapperExecutor")
    has(found.WrappersMP, "OUTER_SAMPLE", "PREPARE_SAMPLING", "CALC_COND_BATCH", "DIFFUSION_MODEL")
    executor = found.WrapperExecutor.new_class_executor(max, "owner", [])
    has(executor, "class_obj", "original")
    model = patcher()
    has(model, "add_wrapper_with_key", "remove_wrappers_with_key", "get_wrappers", "hook_patches", "object_patches")
    model.add_wrapper_with_key(found.WrappersMP.OUTER_SAMPLE, "ours", max)
    hold(model.clone().get_wrappers(found.WrappersMP.OUTER_SAMPLE, "ours") == [max], "a clone loses its wrappers")
    model.remove_wrappers_with_key(found.WrappersMP.OUTER_SAMPLE, "ours")
    hold(not model.get_wrappers(found.WrappersMP.OUTER_SAMPLE, "ours"), "a wrapper cannot be removed by its key")


@row("comfyui-10")
def test_what_the_hooks_are_given():
    """A run asks each hook, with its own arguments: the run, its preparation, a batch of conditions, Wan."""
    kinds, seen = module("comfy.patcher_extension", "WrappersMP").WrappersMP, {}
    model = patcher(base())

    def hook(name: str) -> Any:
        def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
            seen.setdefault(name, (executor.class_obj, args, kwargs))
            seen.setdefault("conds", getattr(executor.class_obj, "conds", {}))
            return executor(*args, **kwargs)

        return wrapper

    names = ("OUTER_SAMPLE", "PREPARE_SAMPLING", "CALC_COND_BATCH", "DIFFUSION_MODEL")
    for name in names:
        model.add_wrapper_with_key(getattr(kinds, name), "ours", hook(name))
    sample(model)
    silent = [name for name in names if name not in seen]
    hold(not silent, f"a run no longer asks the hooks {', '.join(silent)}")
    has(seen["OUTER_SAMPLE"][0], "model_patcher.hook_patches", name="what OUTER_SAMPLE runs in")
    hold("positive" in seen["conds"], "what OUTER_SAMPLE runs in no longer holds the conditions by name")
    order(module("comfy.samplers").CFGGuider.outer_sample, "noise", "latent_image", "sampler", "sigmas",
          "denoise_mask", "callback")  # fmt: skip
    shapes = seen["OUTER_SAMPLE"][2].get("latent_shapes")
    hold(shapes is None or list(map(tuple, shapes)) == [(1, 48, 1, 4, 4)], f"latent_shapes is {shapes}")
    patched, shape, conds, *_ = seen["PREPARE_SAMPLING"][1]
    has(patched, "model.memory_required", name="what PREPARE_SAMPLING is given first")
    hold(tuple(shape) == (1, 48, 1, 4, 4), f"PREPARE_SAMPLING is given {shape}, not the shape of the noise")
    hold("cross_attn" in conds["positive"][0], "PREPARE_SAMPLING is no longer given the conditions by name")
    inner, batches = seen["CALC_COND_BATCH"][1][:2]
    has(inner, "diffusion_model", "process_latent_in", name="what CALC_COND_BATCH is given first")
    hold("model_conds" in batches[0][0], "CALC_COND_BATCH is no longer given conditions with their model_conds")
    hold(seen["DIFFUSION_MODEL"][0] is base().diffusion_model, "DIFFUSION_MODEL runs in something else than Wan")
    order(module("comfy.samplers").calc_cond_batch, "model", "conds", "x_in", "timestep", "model_options")


@row("comfyui-11")
def test_the_hook_around_wan():
    """Wan's forward asks DIFFUSION_MODEL with x, timestep, context, clip_fea, time_dim_concat, transformer_options."""
    order(type(wan()).forward, "x", "timestep", "context", "clip_fea", "time_dim_concat", "transformer_options")
    seen: list[Any] = []

    def hook(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        seen.append((executor, args, set(kwargs)))
        kwargs.pop("ours")
        made = executor(*args, **kwargs)
        hold(torch.equal(executor.original(*args, **kwargs), made), "executor.original is not Wan's own forward")
        return made

    plain = draw()
    hooked = draw({"wrappers": {"diffusion_model": {"ours": [hook]}}}, ours=1)
    hold(seen, "Wan's forward no longer asks the hook DIFFUSION_MODEL")
    executor, args, more = seen[0]
    hold(executor.class_obj is wan(), "executor.class_obj is not the Wan")
    hold(len(args) == 6 and more == {"ours"}, f"the hook is given {len(args)} arguments and {sorted(more)}")
    hold(torch.equal(hooked, plain), "what the hook gives is not what Wan gives")


@row("comfyui-12")
def test_a_block_may_be_replaced():
    """patches_replace["dit"][("double_block", i)] gets img, txt, vec, pe, and original_block; it gives img."""
    seen: list[Any] = []

    def block(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        seen.append((set(args), set(extra)))
        return {"img": extra["original_block"](args)["img"].flip(-1)}

    plain = draw()
    changed = draw({"patches_replace": {"dit": {("double_block", 1): block}}})
    hold(len(seen) == 1, "Wan no longer asks for the replacement of a block")
    lacking = sorted({"img", "txt", "transformer_options"} - seen[0][0]) + sorted({"original_block"} - seen[0][1])
    hold(not lacking, f"the replacement of a block is no longer given {', '.join(lacking)}")
    hold(not torch.allclose(plain, changed), "what the replacement of a block gives is ignored")


@row("comfyui-13")
def test_attributes_of_wan():
    """Wan has blocks, patch_size and dim, takes odd sizes, and takes [B, C, 1, h, w] and a text context [B, L, dim]."""
    has(wan(), "blocks", "patch_size", "dim")
    hold(draw().shape == (1, 8, 1, 4, 6), "Wan answers in another shape")
    odd = wan()(torch.ones(1, 8, 1, 3, 5), torch.zeros(1), torch.ones(1, 5, 24))
    hold(odd.shape == (1, 8, 1, 3, 5), "Wan no longer pads a latent that its patches do not divide")


@row("comfyui-14")
def test_models_that_travel_with_a_model(monkeypatch):
    """Additional models are set by key, cloned with the model, and loaded beside it for a run."""
    model, other = patcher(), patcher()
    has(model, "set_additional_models", "additional_models", "get_additional_models", "get_nested_additional_models")
    model.set_additional_models("ours", [other])
    hold(model.additional_models["ours"][0].model is other.model, "set_additional_models keeps something else")
    hold(model.clone().additional_models["ours"][0].model is other.model, "a clone loses its additional models")
    run, loaded = patcher(base()), []
    run.set_additional_models("ours", [other])
    management = module("comfy.model_management", "load_models_gpu")
    load = management.load_models_gpu

    def watched(models: Any, *args: Any, **kwargs: Any) -> Any:
        loaded.extend(models)
        return load(models, *args, **kwargs)

    monkeypatch.setattr(management, "load_models_gpu", watched)
    sample(run)
    hold(any(model.model is other.model for model in loaded), "a run no longer loads the MODEL's additional models")


@row("comfyui-15")
def test_object_patches():
    """An object patch stands in for an attribute of the model while a run has it, and clones keep it."""
    model = patcher(base())
    model.add_object_patch("scale_latent_inpaint", max)
    hold(model.clone().object_patches["scale_latent_inpaint"] is max, "a clone loses its object patches")
    hold(model.get_model_object("scale_latent_inpaint") is max, "get_model_object does not see object patches")
    (shifted,) = module("comfy_extras.nodes_model_advanced", "ModelSamplingSD3").ModelSamplingSD3().patch(model, 4.0)
    hold("model_sampling" in shifted.object_patches, "ModelSamplingSD3 no longer patches model_sampling")
    flow = shifted.get_model_object("model_sampling")
    hold(flow.shift == 4.0, "ModelSamplingSD3 sets no shift")
    half, one = torch.tensor([0.5]), torch.ones(1, 1, 1, 1)
    made = (
        float(flow.timestep(half)),
        float(flow.calculate_input(half, one)),
        float(flow.calculate_denoised(half, one, one)),
    )
    hold(made == (500.0, 1.0, 0.5), f"a flow's timestep, input and result at half noise are {made}")


# --- conditions ------------------------------------------------------------------------------------------------------


@row("comfyui-16")
def test_conditions_that_carry_their_own():
    """model_conds of a CONDITIONING entry stay with it, and join what the model makes; its tensor is c_crossattn."""
    helpers, samplers = module("comfy.sampler_helpers", "convert_cond"), module("comfy.samplers", "encode_model_conds")
    conds = module("comfy.conds", "CONDRegular")
    ours, text = conds.CONDRegular(torch.zeros(1)), torch.zeros(1, 5, 24)
    (found,) = helpers.convert_cond([[text, {"model_conds": {"ours": ours}}]])
    hold(found["model_conds"].get("ours") is ours, "convert_cond drops a CONDITIONING's model_conds")
    hold(found.get("cross_attn") is text, "the tensor of a CONDITIONING is no longer cross_attn")
    noise = torch.zeros(1, 48, 1, 2, 2)
    latent = {"latent_image": noise, "denoise_mask": None, "seed": 0, "latent_shapes": [noise.shape]}
    (made,) = samplers.encode_model_conds(base().extra_conds, [found], noise, torch.device("cpu"), "positive", **latent)
    hold(made["model_conds"].get("ours") is ours, "encode_model_conds drops a CONDITIONING's model_conds")
    lacking = {"c_crossattn"} - made["model_conds"].keys()
    hold(not lacking, "the text of a condition is no longer in its model_conds as c_crossattn")
    hold(made["model_conds"]["c_crossattn"].cond is text, "the text of a condition is no longer the very tensor given")
    with_mask = base().extra_conds(cross_attn=text, denoise_mask=noise[:, :1], noise=noise, device="cpu")
    hold("denoise_mask" in with_mask, "Wan2.2 no longer scales time by a denoise_mask: dropping it may go")


@row("comfyui-17")
def test_the_class_of_a_condition():
    """CONDRegular keeps cond; a batch is made by process_cond, can_concat, concat and size."""
    kind = module("comfy.conds", "CONDRegular").CONDRegular
    has(kind(torch.zeros(1)), "cond")
    order(kind.process_cond, "batch_size")
    order(kind.can_concat, "other")
    order(kind.concat, "others")
    has(kind, "size")
    asked: list[str] = []

    class Ours(kind):
        def process_cond(self, batch_size: int, **kwargs: Any) -> Any:
            asked.append("process_cond")
            return super().process_cond(batch_size=batch_size, **kwargs)

        def can_concat(self, other: Any) -> bool:
            asked.append("can_concat")
            return super().can_concat(other)

        def concat(self, others: Any) -> Any:
            asked.append("concat")
            return super().concat(others)

        def size(self) -> Any:
            asked.append("size")
            return super().size()

    taken: list[Any] = []

    def take(executor: Any, *args: Any, **kwargs: Any) -> Any:
        taken.append(kwargs.pop("ours", None))
        return executor(*args, **kwargs)

    model = patcher(base())
    model.add_wrapper_with_key("diffusion_model", "ours", take)
    sample(model, model_conds={"ours": Ours(torch.zeros(1, 2))})
    idle = sorted({"process_cond", "can_concat", "concat", "size"} - set(asked))
    hold(not idle, f"batches are made without asking {', '.join(idle)} of a condition")
    hold(taken and taken[0] is not None, "what stands in model_conds no longer becomes a keyword of Wan's forward")


@row("comfyui-18")
def test_other_conditions_of_wan():
    """A ReferenceLatent reaches Wan as reference_latent, or as context_latents from where that exists on."""
    source = inspect.getsource(module("comfy.model_base").WAN21.extra_conds)
    found = [name for name in ("reference_latent", "context_latents") if f"'{name}'" in source or f'"{name}"' in source]
    hold("reference_latent" in found, "a ReferenceLatent no longer reaches Wan as reference_latent, so none is refused")


# --- sampling --------------------------------------------------------------------------------------------------------


@row("comfyui-19")
def test_a_guider_of_ones_own():
    """CFGGuider is given conditions of any names, keeps them in conds, and asks predict_noise(x, timestep, options)."""
    kind = module("comfy.samplers", "CFGGuider").CFGGuider
    order(kind.predict_noise, "x", "timestep", "model_options", "seed")
    order(kind.sample, "noise", "latent_image", "sampler", "sigmas")
    takes(kind.sample, "denoise_mask", "callback", "disable_pbar", "seed")
    guider = kind(patcher(base()))
    guider.inner_set_conds({"no_image": [[torch.zeros(1, 5, 24), {}]]})
    hold(set(guider.original_conds) == {"no_image"}, "inner_set_conds takes no names but its own")
    source = inspect.getsource(kind)
    for name in ("self.conds", "self.inner_model"):
        hold(name in source, f"CFGGuider no longer has {name}")


@row("comfyui-42")
def test_what_changes_cfg():
    """sampling_function and cfg_function take a run's predictions, and ask these options of a MODEL's."""
    found = module("comfy.samplers", "sampling_function", "cfg_function")
    order(found.sampling_function, "model", "x", "timestep", "uncond", "cond", "cond_scale", "model_options", "seed")
    order(found.cfg_function, "model", "cond_pred", "uncond_pred", "cond_scale", "x", "timestep", "model_options")
    takes(found.cfg_function, "cond", "uncond")
    source = inspect.getsource(found.sampling_function) + inspect.getsource(found.cfg_function)
    for option in ("cfg_function", "pre_cfg_function", "post_cfg_function", "calc_cond_batch_function"):
        hold(f'"sampler_{option}"' in source, f"a MODEL's sampler_{option} is no longer asked")
    made = torch.ones(1)
    told = found.cfg_function(
        None, made, made, 2.0, made * 3, made, {"sampler_cfg_function": lambda args: args["input"]}
    )
    hold(bool(told == 0), "what sampler_cfg_function gives is no longer taken from the input")


@row("comfyui-20")
def test_a_sampler_of_ones_own():
    """KSAMPLER calls a function with (model, x, sigmas, extra_args, callback, disable); the callback reads a dict."""
    samplers, seen, told = module("comfy.samplers", "KSAMPLER"), [], []

    def run(*args: Any, **kwargs: Any) -> Tensor:
        seen.append((len(args), set(kwargs)))
        x = args[1]
        kwargs["callback"]({"x": x, "i": 0, "sigma": args[2][0], "sigma_hat": args[2][0], "denoised": x})
        return x

    guider, latent = samplers.CFGGuider(patcher(base())), torch.zeros(1, 48, 1, 2, 2)
    guider.inner_model = base()
    sigmas, extra = torch.tensor([1.0, 0.0]), {"seed": 0, "model_options": {}}
    samplers.KSAMPLER(run).sample(guider, sigmas, extra, lambda *given: told.append(given), latent, latent, None, True)
    hold(seen == [(3, {"extra_args", "callback", "disable"})], f"KSAMPLER gives its function {seen}")
    hold(told and told[0][0] == 0, "a callback is no longer given the number of its step first")


@row("comfyui-21")
def test_attention():
    """optimized_attention takes heads first, gives heads first, and takes transformer_options."""
    attend = module("comfy.ldm.modules.attention", "optimized_attention").optimized_attention
    q, k, v = (torch.randn(1, 2, n, 32) for n in (3, 5, 5))
    whole = {"heads": 2, "skip_reshape": True, "skip_output_reshape": True, "transformer_options": {}}
    ours, theirs = attend(q, k, v, **whole), nn.functional.scaled_dot_product_attention(q, k, v)
    hold(ours.shape == q.shape and torch.allclose(ours, theirs, atol=1e-4), "optimized_attention computes otherwise")


@row("comfyui-22")
def test_small_helpers_of_a_run():
    """Noise, previews, progress bars, scaling of masks and the cancel button are asked as the stock nodes ask them."""
    order(module("comfy.sample", "prepare_noise").prepare_noise, "latent_image", "seed")
    order(module("latent_preview", "prepare_callback").prepare_callback, "model", "steps")
    utils = module("comfy.utils", "PROGRESS_BAR_ENABLED", "common_upscale")
    order(utils.common_upscale, "samples", "width", "height", "upscale_method", "crop")
    management = module("comfy.model_management", "throw_exception_if_processing_interrupted")
    management.throw_exception_if_processing_interrupted()


# --- models ----------------------------------------------------------------------------------------------------------


@row("comfyui-23")
def test_the_description_of_a_model():
    """WAN22_T2V takes sizes of our own, and its latent format, shift, dtypes and quantisation may be set."""
    found = description()
    names = ("latent_format", "sampling_settings", "supported_inference_dtypes", "quant_config", "unet_config")
    has(found, *names, "set_inference_dtype")
    found.sampling_settings = {"shift": 4.0}
    found.set_inference_dtype(torch.float32, None)
    made = module("comfy.model_base", "WAN22").WAN22(found, device=torch.device("cpu"))
    has(made, "diffusion_model", "get_dtype_inference", "load_model_weights", "process_latent_in", "memory_required")
    hold(made.model_sampling.shift == 4.0, "a model no longer takes its shift from sampling_settings")
    hold(made.get_dtype_inference() == torch.float32, "a model no longer takes its dtype from set_inference_dtype")
    hold(made.latent_format is found.latent_format, "a model no longer takes its latent format from its description")
    order(made.load_model_weights, "sd", "unet_prefix", "assign")


@row("comfyui-24")
def test_the_latent_format():
    """latent_formats.Wan22 holds mean, deviation and preview colours as attributes, and its process_in uses them."""
    found = module("comfy.latent_formats", "Wan22").Wan22()
    has(found, "latent_rgb_factors", "latent_rgb_factors_bias", "latents_mean", "latents_std")
    shape = (1, 48, 1, 1, 1)
    hold(found.latents_mean.shape == shape, f"latents_mean is {list(found.latents_mean.shape)}, not {list(shape)}")
    found.latents_mean, found.latents_std = torch.full(shape, 2.0), torch.full(shape, 4.0)
    made = found.process_in(torch.full((1, 48, 1, 1, 1), 6.0))
    hold(torch.allclose(made, torch.ones(shape)), "process_in no longer uses latents_mean and latents_std")
    hold((found.latent_dimensions, found.spacial_downscale_ratio) == (3, 16), "Wan2.2's latents have other axes")
    has(found, "latent_channels", "taesd_decoder_name", "scale_factor", "process_out")
    asked = inspect.getsource(module("comfy.sample", "fix_empty_latent_channels").fix_empty_latent_channels)
    hold('get_model_object("latent_format")' in asked, "an empty latent is shaped without asking the latent_format")
    hold("latent_dimensions" in asked, "an empty latent is shaped whatever the latent_format's axes")


@row("comfyui-41")
def test_the_area_of_a_condition():
    """Stock nodes give an area as (height, width, y, x), 8 pixels a cell, or as shares; a run's guider holds it."""
    nodes, found = module("nodes"), [[torch.zeros(1), {}]]
    for node, given, expected in (
        ("ConditioningSetArea", (64, 128, 32, 16, 1.0), (16, 8, 2, 4)),
        ("ConditioningSetAreaPercentage", (0.5, 1.0, 0.25, 0.0, 1.0), ("percentage", 1.0, 0.5, 0.0, 0.25)),
    ):
        has(nodes, node, name="ComfyUI's nodes")
        ((_, made),) = getattr(nodes, node)().append(found, *given)[0]
        hold(made["area"] == expected, f"{node} gives {made['area']}, not {expected}")
    source = inspect.getsource(module("comfy.samplers").process_conds)
    resolved, run = source.index("resolve_areas"), inspect.getsource(module("comfy.samplers").CFGGuider)
    hold(resolved >= 0 and "process_conds" in run[run.index("def inner_sample") :], "areas are resolved elsewhere")


@row("comfyui-25")
def test_float8_as_comfyui_keeps_it():
    """A float8 weight has NAME.weight_scale and NAME.comfy_quant beside it, JSON bytes; such a layer widens it."""
    ops, text = module("comfy.ops"), {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}
    kinds = ops.mixed_precision_ops({}, torch.float32, full_precision_mm=True)
    layer = nn.Sequential(kinds.Linear(16, 16, bias=False, device=torch.device("cpu"), dtype=torch.float32))
    weight = torch.eye(16).to(torch.float8_e4m3fn)
    mark = torch.tensor(list(json.dumps(text).encode()), dtype=torch.uint8)
    state = {"0.weight": weight, "0.weight_scale": torch.tensor(3.0), "0.comfy_quant": mark}
    lacking, strange = layer.load_state_dict(state, strict=False)
    hold(not strange and not lacking, f"a float8 layer does not know {strange or lacking}")
    out = layer(torch.ones(1, 16))
    hold(torch.allclose(out.float(), torch.full((1, 16), 3.0)), "a float8 layer no longer multiplies by weight_scale")


@row("comfyui-26")
def test_names_of_wans_tensors():
    """Wan's tensors have the original names that diffusers' converter knows."""
    convert = module("diffusers.loaders.single_file_utils").convert_wan_transformer_to_diffusers
    names = list(wan().state_dict())
    made = convert({name: torch.tensor(i) for i, name in enumerate(names)})
    kept = sorted(name for name in made if re.match(r"(head|time_|text_|blocks\.\d+\.(self|cross)_attn)", name))
    hold(len(made) == len(names) and not kept, f"Wan has tensors of unknown names: {', '.join(kept[:6])}")


@row("comfyui-27")
def test_names_of_the_vaes_tensors():
    """The Wan2.2 VAE's tensors have the names that diffusers' VAE's are turned into."""
    sys.path.append(str(PACK))
    vae = module("diffusers.models.autoencoders.autoencoder_kl_wan").AutoencoderKLWan
    from lightbagel_core.files.key_maps import original_vae_name

    statistics = {"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48, "in_channels": 12, "out_channels": 12}
    sizes = {"base_dim": 8, "decoder_base_dim": 8, "z_dim": 48, "num_res_blocks": 1, "is_residual": True}
    ours = vae(**sizes, **statistics, patch_size=2, temperal_downsample=[False, True, True])
    kind = module("comfy.ldm.wan.vae2_2", "WanVAE").WanVAE
    theirs = kind(dim=8, dec_dim=8, z_dim=48, num_res_blocks=1, temperal_downsample=[False, True, True])
    names = {original_vae_name(name, 1): tuple(t.shape) for name, t in ours.state_dict().items()}
    strange = sorted(names.items() ^ {name: tuple(t.shape) for name, t in theirs.state_dict().items()}.items())
    hold(not strange, f"the VAE's tensors have other names or shapes: {strange[:3]}")


@row("comfyui-28")
def test_what_manages_a_module():
    """CoreModelPatcher, looked up when it is needed, is the patcher that streams weights where ComfyUI does."""
    found = module("comfy.model_patcher", "CoreModelPatcher", "ModelPatcher")
    hold(issubclass(found.CoreModelPatcher, found.ModelPatcher), "CoreModelPatcher is no ModelPatcher any more")
    takes(found.ModelPatcher.__init__, "model", "load_device", "offload_device")


@row("comfyui-29")
def test_devices_and_dtypes():
    """model_management chooses devices and dtypes for Wan and for text encoders."""
    names = ("get_torch_device", "unet_offload_device", "text_encoder_device", "text_encoder_offload_device")
    found = module("comfy.model_management", *names, "intermediate_device", "unet_dtype", "unet_manual_cast")
    for name in (*names, "intermediate_device"):
        hold(isinstance(getattr(found, name)(), torch.device), f"{name}() is no torch.device")
    takes(found.unet_dtype, "model_params", "supported_dtypes")
    kinds = [torch.float16, torch.bfloat16, torch.float32]
    found.unet_manual_cast(None, torch.device("cpu"), kinds)
    hold(found.unet_dtype(model_params=1, supported_dtypes=kinds) in kinds, "unet_dtype chooses none of the dtypes")
    hold(isinstance(found.should_use_bf16(torch.device("cpu")), bool), "should_use_bf16 answers neither yes nor no")


@row("comfyui-30")
def test_a_vaes_sizes():
    """A VAE says its latent_channels, and how many pixels a latent covers by spacial_compression_encode()."""
    source = inspect.getsource(module("comfy.sd").VAE)
    hold("self.latent_channels = 48" in source, "the Wan2.2 VAE no longer says that it has 48 latent_channels")
    has(module("comfy.sd").VAE, "spacial_compression_encode", "encode", "decode")


# --- text encoder ----------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Notes what a CLIP asks of its text encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.asked: list[tuple[str, Any]] = []

    def reset_clip_options(self) -> None:
        self.asked.append(("reset_clip_options", None))

    def set_clip_options(self, options: dict[str, Any]) -> None:
        self.asked.append(("set_clip_options", options))

    def encode_token_weights(self, tokens: Any) -> tuple[Tensor, None, dict[str, Any]]:
        self.asked.append(("encode_token_weights", tokens))
        return torch.zeros(1, 2, 3), None, {"ours": 1}

    def generate(self, tokens: Any, **options: Any) -> list[int]:
        self.asked.append(("generate", options))
        return [7]


class Words:
    """Notes what a CLIP asks of its tokenizer."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, Any]:
        self.asked.append(options)
        return {"ours": text}

    def decode(self, token_ids: Any, skip_special_tokens: bool = True) -> str:
        return "decoded"

    def state_dict(self) -> dict[str, Any]:
        return {}


def clip() -> Any:
    made = module("comfy.sd").CLIP(no_init=True)
    made.cond_stage_model, made.tokenizer = Encoder(), Words()
    made.patcher = patcher(made.cond_stage_model)
    made.patcher.is_clip = True
    made.layer_idx, made.use_clip_schedule, made.apply_hooks_to_conds, made.tokenizer_options = None, False, None, {}
    return made


@row("comfyui-31")
def test_what_a_clip_asks_of_its_tokenizer():
    """tokenize hands its options to tokenize_with_weights; decode is handed on; get_sd adds the tokenizer's state."""
    made = clip()
    hold(made.tokenize("red", pictures=1) == {"ours": "red"}, "CLIP.tokenize changes what the tokenizer gives")
    hold(made.tokenizer.asked == [{"pictures": 1}], f"CLIP.tokenize hands on {made.tokenizer.asked}")
    hold(made.decode([1]) == "decoded", "CLIP.decode no longer asks the tokenizer")
    made.get_sd()


@row("comfyui-32")
def test_what_a_clip_asks_of_its_encoder():
    """encode_token_weights gives (states, pooled, more), and more stands in the CONDITIONING; the device is told."""
    made = clip()
    ((states, more),) = made.encode_from_tokens_scheduled({"ours": "red"})
    hold(states.shape == (1, 2, 3) and more.get("ours") == 1, "what an encoder adds no longer stands in a CONDITIONING")
    told = [options for name, options in made.cond_stage_model.asked if name == "set_clip_options"]
    hold(any("execution_device" in options for options in told), "the encoder is no longer told its execution_device")


@row("comfyui-33")
def test_what_generate_hands_on():
    """CLIP.generate hands the encoder the settings of an answer: those that are known here, and no others.

    Others are passed over when a person asks; whether that is right for a new one must be looked at here first.
    """
    made = clip()
    answer = made.generate({"ours": "red"}, do_sample=True, max_length=4, seed=1)
    hold(answer == [7], "CLIP.generate changes the answer")
    handed = set(dict(made.cond_stage_model.asked)["generate"])
    known = {"do_sample", "max_length", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed"}
    lacking, more = sorted(known - handed), sorted(handed - known - {"presence_penalty", "mtp"})
    hold(not lacking, f"CLIP.generate no longer hands on {', '.join(lacking)}")
    hold(not more, f"CLIP.generate hands on more, whose meaning nobody has looked at: {', '.join(more)}")


@row("comfyui-34")
def test_the_tokenizer_that_comes_along():
    """comfy/text_encoders/qwen25_tokenizer has Qwen2.5's vocab.json, merges.txt and tokenizer_config.json."""
    folder = Path(next(iter(module("comfy.text_encoders").__path__))) / "qwen25_tokenizer"
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        hold((folder / name).is_file(), f"there is no comfy/text_encoders/qwen25_tokenizer/{name}")


@row("comfyui-62")
def test_where_saving_nodes_put_what(tmp_path, monkeypatch):
    """A checkpoint prefixes model, CLIP and VAE; CLIPSave leaves transformer. out, and saves the tokenizer's state."""
    made = clip()
    made.cond_stage_model.transformer = nn.Linear(1, 1)
    made.tokenizer.state_dict = lambda: {"words.json": torch.zeros(3, dtype=torch.uint8)}
    model, clips = patcher(base()), made.state_dict_for_saving() if has_saving(made) else made.get_sd()
    hold("words.json" in clips, "a CLIP is saved without its tokenizer's state_dict")
    saved = model.state_dict_for_saving(dict(clips), {"weight": torch.zeros(1)})
    wanted = {"model.diffusion_model.head.modulation", "text_encoders.transformer.weight", "text_encoders.words.json"}
    lacking = sorted((wanted | {"vae.weight"}) - saved.keys())
    hold(not lacking, f"a saved checkpoint lacks {', '.join(lacking)}")
    nodes, written = module("comfy_extras.nodes_model_merging", "CLIPSave"), {}
    monkeypatch.setattr(module("comfy.utils"), "save_torch_file", lambda sd, *_, **__: written.update(sd))
    saver = nodes.CLIPSave()
    saver.output_dir = str(tmp_path)
    saver.save(made, "clip/it")
    hold({"weight", "bias", "words.json"} <= written.keys(), f"CLIPSave writes {sorted(written)}")


def has_saving(made: Any) -> bool:
    return hasattr(made, "state_dict_for_saving")


@row("comfyui-63")
def test_patches_of_merging_nodes():
    """ModelMergeSimple patches with lists; what a LoRA patches with is no list."""
    merging = module("comfy_extras.nodes_model_merging", "ModelMergeSimple").ModelMergeSimple()
    (merged,) = merging.merge(patcher(base()), patcher(base()), 0.5)
    hold(merged.patches, "ModelMergeSimple patches nothing")
    hold(
        all(isinstance(patch[1], list) for each in merged.patches.values() for patch in each),
        "a patch of ModelMergeSimple is no longer a list",
    )
    lora = module("comfy.lora", "load_lora")
    name, low = "diffusion_model.head.head.weight", torch.ones(1, 64)
    state = {"x.lora_down.weight": low, "x.lora_up.weight": torch.ones(192, 1)}
    (patch,) = lora.load_lora(state, {"x": name}).values()
    hold(not isinstance(patch, list), "a LoRA's patch is a list, as a merging node's")


@row("comfyui-65")
def test_patches_of_a_lora(monkeypatch):
    """load_lora makes patches of lora_A, lora_B and alpha, which add_patches takes: strength * alpha / rank * B @ A."""
    kind = module("comfy.model_patcher", "ModelPatcher").ModelPatcher
    layer, cpu = nn.Linear(3, 2, bias=False).requires_grad_(False), torch.device("cpu")
    before = layer.weight.clone()
    down, up = torch.arange(6.0).reshape(2, 3), torch.ones(2, 2)
    state = {"x.lora_A.weight": down, "x.lora_B.weight": up, "x.alpha": torch.tensor(3.0)}
    loaded = module("comfy.lora", "load_lora").load_lora(state, {"x": "weight"})
    hold(list(loaded) == ["weight"], f"load_lora makes patches of {list(loaded)}")
    model = kind(layer, load_device=cpu, offload_device=cpu)
    model.add_patches(loaded, -0.5)
    hold(list(model.patches) == ["weight"], "add_patches takes no patch that load_lora makes")
    found = model.patch_weight_to_device("weight", device_to=cpu, return_weight=True)
    hold(torch.allclose(found, before - 0.75 * up @ down), "a LoRA no longer adds strength * alpha / rank * B @ A")
    model.add_patches({"weight": ("diff", (torch.ones(2, 3),))}, 2.0)
    more = model.patch_weight_to_device("weight", device_to=cpu, return_weight=True)
    hold(torch.allclose(more, found + 2), 'a patch ("diff", (tensor,)) no longer adds strength * tensor')
    hold("weight" not in model.backup, "patch_weight_to_device with return_weight keeps a backup")
    layout = signature_of_lora_loader()
    if "lora_metadata" in layout:
        has(model, "get_attachment", "set_attachments")
        stock = module("comfy.sd").load_lora_for_models
        made, _ = stock(patcher(base()), None, {}, 1.0, 0.0, lora_metadata={"ours": "said"})
        hold(made.get_attachment("lora_metadata") == {"ours": "said"}, "a LoRA's metadata is kept elsewhere")


def signature_of_lora_loader() -> list[str]:
    return list(inspect.signature(module("comfy.sd", "load_lora_for_models").load_lora_for_models).parameters)


@row("comfyui-64")
def test_weights_that_comfyui_does_not_patch():
    """ON_LOAD is called with patcher and device; a weight outside layers is passed over, and put back from backup."""
    callbacks = module("comfy.patcher_extension", "CallbacksMP").CallbacksMP
    model, told, name = patcher(base()), [], "diffusion_model.head.modulation"
    has(model, "add_callback_with_key", "remove_callbacks_with_key", "patches", "backup", "patch_weight_to_device")
    before = base().diffusion_model.head.modulation.clone()
    model.add_patches({name: (torch.ones_like(before),)}, 1.0)
    model.add_callback_with_key(callbacks.ON_LOAD, "ours", lambda *given: told.append(given))
    model = model.clone()
    cpu = torch.device("cpu")
    model.load(cpu, full_load=True)
    hold(told and told[0][:2] == (model, cpu), "ON_LOAD is no longer called with the patcher and its device")
    now = base().diffusion_model.head.modulation
    hold(torch.equal(now, before), "ComfyUI now patches weights outside all layers: patch_outside_layers may go")
    model.patch_weight_to_device(name, device_to=cpu)
    patched = base().diffusion_model.head.modulation
    hold(torch.allclose(patched, before + 1), "patch_weight_to_device no longer patches a weight by its name")
    hold(torch.equal(model.backup[name].weight, before), "backup no longer keeps the weight that was patched")
    model.unpatch_model()
    hold(torch.equal(base().diffusion_model.head.modulation, before), "a weight is not put back from backup")


# --- training --------------------------------------------------------------------------------------------------------


def seen_in_training(pictures: int) -> dict[str, Any]:
    """What the hooks of a MODEL see in one step of Train LoRA on a batch of pictures."""
    node = module("comfy_extras.nodes_train", "TrainLoraNode").TrainLoraNode
    extension, management = module("comfy.patcher_extension", "WrappersMP"), module("comfy.model_management")
    seen: dict[str, Any] = {}

    def loaded(disable_dynamic: bool = False) -> Any:
        """Weights, and a patcher of their own; ComfyUI trains a copy."""
        found = description()
        found.set_inference_dtype(torch.float32, None)
        return patcher(filled(module("comfy.model_base", "WAN22").WAN22(found, device=torch.device("cpu"))))

    def outer(executor: Any, noise: Any, latent: Any, sampler: Any, *args: Any, **kwargs: Any) -> Any:
        seen.update(training=management.in_training, sampler=sampler)
        return executor(noise, latent, sampler, *args, **kwargs)

    def batch(executor: Any, model: Any, conds: Any, x: Tensor, *args: Any) -> Any:
        told = [cond["model_conds"]["c_crossattn"].cond.mean().item() for cond in conds[0]]
        seen.update(conds=told, pictures=len(x))
        return executor(model, conds, x, *args)

    model = loaded()
    model.cached_patcher_init = (loaded, ())
    model.add_wrapper_with_key(extension.WrappersMP.OUTER_SAMPLE, "contract", outer)
    model.add_wrapper_with_key(extension.WrappersMP.CALC_COND_BATCH, "contract", batch)
    latents = [{"samples": torch.ones(1, 48, 1, 4, 4)} for _ in range(pictures)]
    settings = {
        "batch_size": pictures, "grad_accumulation_steps": 1, "steps": 1, "learning_rate": 1e-3, "rank": 1,
        "optimizer": "SGD", "loss_function": "MSE", "seed": 0, "training_dtype": "bf16", "lora_dtype": "fp32",
        "quantized_backward": False, "algorithm": "LoRA", "gradient_checkpointing": False, "checkpoint_depth": 1,
        "offloading": False, "existing_lora": "[None]", "bucket_mode": False, "bypass_mode": False,
    }  # fmt: skip
    known = inspect.signature(node.execute.__func__).parameters
    positive = [[[torch.full((1, 5, 24), float(i)), {}]] for i in range(pictures)]
    with torch.inference_mode():
        given = {name: [value] for name, value in settings.items() if name in known}
        node.execute(model=[model], latents=latents, positive=positive, **given)
    seen["after"] = management.in_training
    return seen


@row("comfyui-70")
def test_training_says_so():
    """in_training is true in a MODEL's wrappers while TrainLoraNode runs, and false afterwards."""
    seen = seen_in_training(1)
    hold(seen["training"] is True, "in_training is not true while Train LoRA runs")
    hold(seen["after"] is False, "in_training stays true after Train LoRA")
    one = [getattr(seen["sampler"], name, None) for name in ("real_dataset", "bucket_latents")]
    hold(one == [None, None], "Train LoRA takes latents of one size for latents of several")


@row("comfyui-71")
def test_training_on_several_sizes_normalises_nothing():
    """Latents of several sizes stand in the sampler's real_dataset, those of bucket_mode in its bucket_latents, and
    reach the model as they were given.
    """
    kind = module("comfy_extras.nodes_train", "TrainSampler").TrainSampler
    takes(kind.__init__, "real_dataset", "bucket_latents")
    source = inspect.getsource(module("comfy_extras.nodes_train"))
    hold("process_latent_in" not in source, "Train LoRA may now normalise latents of several sizes itself")
    given = kind(None, None, real_dataset=[torch.ones(1)], bucket_latents=[torch.ones(1)])
    hold(given.real_dataset is not None, "a sampler's real_dataset stands elsewhere")
    hold(given.bucket_latents is not None, "a sampler's bucket_latents stand elsewhere")


@row("comfyui-72")
def test_a_batch_in_training():
    """A batch of Train LoRA has one condition for each picture, and all of them are given to all pictures."""
    seen = seen_in_training(2)
    hold(sorted(seen["conds"]) == [0.0, 1.0], f"a batch of two pictures has conditions {seen['conds']}")
    hold(seen["pictures"] == 2, f"a batch of two has {seen['pictures']} pictures")


# --- files, nodes, page ----------------------------------------------------------------------------------------------


@row("comfyui-35")
def test_model_folders(tmp_path):
    """A new model folder stands in folder_names_and_paths as (paths, set of endings), at first without endings."""
    names = ("add_model_folder_path", "folder_names_and_paths", "get_folder_paths", "get_filename_list", "models_dir")
    found = module("folder_paths", *names, "get_full_path_or_raise", "get_output_directory")
    found.add_model_folder_path("lightbagel_contract", str(tmp_path), is_default=True)
    try:
        paths, endings = found.folder_names_and_paths["lightbagel_contract"]
        hold(list(paths) == [str(tmp_path)] and endings == set(), f"a new model folder is {paths, endings}")
        found.folder_names_and_paths["lightbagel_contract"] = (paths, endings | {".safetensors"})
        (tmp_path / "one.safetensors").touch()
        (tmp_path / "one.txt").touch()
        listed = found.get_filename_list("lightbagel_contract")
        hold(listed == ["one.safetensors"], f"endings set by hand are not heeded: {listed} is listed")
        hold(found.get_folder_paths("lightbagel_contract") == [str(tmp_path)], "get_folder_paths gives other paths")
    finally:
        del found.folder_names_and_paths["lightbagel_contract"]
    for name in ("text_encoders", "diffusion_models", "vae", "loras"):
        hold(name in found.folder_names_and_paths, f"there is no model folder {name}")


@row("comfyui-36")
def test_what_nodes_are_made_of():
    """comfy_api.latest has what our nodes are declared with."""
    found = module("comfy_api.latest", "ComfyExtension", "io", "ui")
    sockets = ("Model", "Clip", "Vae", "Image", "Latent", "Mask", "Conditioning", "String", "Int", "Float", "Combo")
    has(found.io, *(f"{name}.Input" for name in sockets), "ComfyNode", "Schema", "NodeOutput", name="comfy_api's io")
    has(found.io, "Autogrow.Input", "Autogrow.TemplatePrefix", "DynamicCombo.Input", "DynamicCombo.Option", name="io")
    has(found.ui, "PreviewText", name="comfy_api's ui")
    has(found.ComfyExtension, "on_load", "get_node_list")
    fields = ("search_aliases", "is_output_node", "description", "category", "display_name", "node_id")
    takes(found.io.Schema, *fields, "inputs", "outputs")
    takes(found.io.Int.Input, "control_after_generate", "advanced", "tooltip", "optional")


@row("comfyui-37")
def test_scripts_of_the_page():
    """The page serves scripts/app.js with app, which has widgets and rootGraph, and calls onNodeOutputsUpdated; it
    serves scripts/api.js with api, which tells of a run that was interrupted or failed.
    """
    other = os.environ.get("COMFYUI_PAGE")
    folder = Path(other or Path(module("comfyui_frontend_package").__file__).parent / "static")
    hold((folder / "scripts" / "app.js").is_file(), "the page serves no scripts/app.js")
    text = (folder / "scripts" / "app.js").read_text("utf-8")
    hold(re.search(r"export const app =", text), "scripts/app.js exports no app")
    api = folder / "scripts" / "api.js"
    hold(api.is_file() and "export const api =" in api.read_text("utf-8"), "scripts/api.js exports no api")
    code = [file.read_text("utf-8") for file in (folder / "assets").glob("*.js")]
    ends = ("`execution_interrupted`", "`execution_error`")
    for name in ("get widgets()", "get rootGraph()", "`onNodeOutputsUpdated`", *ends):
        hold(any(name in text for text in code), f"the page's code has no {name.strip('`')}")


@row("comfyui-38")
def test_transformer_options():
    """What other nodes and hooks add to a forward stands in transformer_options: patches, wrappers, callbacks."""
    found = module("comfy.patcher_extension", "add_wrapper_with_key", "add_callback")
    options: dict[str, Any] = {}
    found.add_wrapper_with_key("kind", "ours", max, options)
    found.add_callback("kind", max, options)
    hold(options.keys() == {"wrappers", "callbacks"}, f"wrappers and callbacks now stand in {sorted(options)}")
    has(patcher(), "set_model_patch_replace", "set_model_patch")
    model = patcher()
    model.set_model_patch_replace(max, "dit", "double_block", 1)
    model.set_model_patch(max, "attn1_patch")
    kept = model.model_options["transformer_options"]
    hold(kept["patches_replace"]["dit"] == {("double_block", 1): max}, "a block's replacement stands elsewhere")
    hold("attn1_patch" in kept["patches"], "a patch no longer stands in transformer_options[patches]")


@row("comfyui-73")
def test_what_a_node_tells_the_page():
    """A node that runs knows its id; PromptServer knows the page that asked, and sends it a text for a node."""
    utils = module("comfy_execution.utils", "get_executing_context", "CurrentNodeContext")
    with utils.CurrentNodeContext("prompt", "7", 0):
        hold(utils.get_executing_context().node_id == "7", "a running node's context has another node_id")
    server = module("server", "PromptServer").PromptServer
    order(server.send_progress_text, "text", "node_id")
    takes(server.send_progress_text, "sid")
    order(server.send_sync, "event", "data", "sid")
    hold("self.client_id" in inspect.getsource(server.__init__), "PromptServer has no client_id")


@row("comfyui-46")
def test_the_pause_of_the_hosts_recording():
    """Where comfy.model_prefetch has pause_malloc_graph, it needs no arguments and gives a context."""
    if importlib.util.find_spec("comfy.model_prefetch") is None:
        return
    pause = getattr(module("comfy.model_prefetch"), "pause_malloc_graph", None)
    if pause is not None:
        with pause():
            pass


@row("comfyui-47")
def test_weights_in_memory():
    """DISABLE_MMAP says whether weights are to lie in memory, not in their files."""
    found = module("comfy.utils", "DISABLE_MMAP")
    hold(isinstance(found.DISABLE_MMAP, bool), "DISABLE_MMAP is neither yes nor no")


@row("comfyui-39")
def test_how_these_tests_start_comfyui():
    """A ComfyUI in this process is started from cli_args, utils.extra_config, PromptServer and nodes."""
    has(module("comfy.cli_args", "args").args, "cpu", "base_directory", "disable_api_nodes", name="comfy.cli_args.args")
    module("utils.extra_config")
    module("server", "PromptServer")
    has(importlib.import_module("nodes"), "load_custom_node", "init_builtin_extra_nodes", "NODE_CLASS_MAPPINGS")
    if not hasattr(module("comfy.options"), "enable_args_parsing"):
        raise Broken("comfy.options has no enable_args_parsing")


@row("comfyui-43")
def test_what_a_patcher_writes_on_the_module_it_loads():
    """A loaded module has its patcher's patches_uuid as current_weight_patches_uuid; a patch gives a new one."""
    model = patcher(nn.Linear(2, 2))
    has(model, "patches_uuid")
    model.patch_model()
    found = getattr(model.model, "current_weight_patches_uuid", None)
    hold(found is not None and found == model.patches_uuid, "a loaded module does not say which patches it has")
    other = model.clone()
    other.add_patches({"weight": (torch.ones(2, 2),)})
    hold(other.patches_uuid != found, "a patch does not change patches_uuid")
    hooked = model.clone()
    hooked.add_hook_patches(module("comfy.hooks", "WeightHook").WeightHook(), {"weight": (torch.ones(2, 2),)})
    hold(hooked.patches_uuid != found, "a hook's patch does not change patches_uuid")
