"""The files that ComfyUI's users own, chosen in the loader: ComfyUI's own names for Wan, VAE and Qwen, float8 too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PACK
from helpers import INSTRUCTION, PROMPT, SEED, SETTINGS, STEPS, fusion_of, pixels, psnr, source, tensor
from safetensors.torch import load_file, save_file

NANO = PACK / "lightbagel_core" / "nano"


def as_comfyui_has_it(module: Any) -> dict[str, torch.Tensor]:
    return {name: t.detach().contiguous().clone() for name, t in module.state_dict().items()}


def scaled(state: dict[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """The matrices of numbered layers in float8 with scales, as ComfyUI's fp8_scaled files have them."""
    made = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, weight in state.items():
        made[name] = weight
        if weight.ndim == 2 and where in name and name.endswith(".weight"):
            scale = weight.abs().amax().float() / 448
            made[name] = (weight.float() / scale).to(torch.float8_e4m3fn)
            made[f"{name.removesuffix('.weight')}.scale_weight"] = scale.reshape(1)
    return made


@pytest.fixture(scope="module")
def owned(host, loaded, tmp_path_factory) -> Path:
    """A models folder with the nano taken apart. Wan and VAE are written by ComfyUI's own modules."""
    import folder_paths

    root = tmp_path_factory.mktemp("models")
    model, _, vae = loaded
    qwen = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): weight
        for name, weight in load_file(NANO / "understanding.safetensors").items()
    }
    wan = as_comfyui_has_it(model.model.diffusion_model)
    wan = {name: weight for name, weight in wan.items() if not name.startswith("lightbagel.")}
    files = {
        "text_encoders/qwen.safetensors": qwen,
        "text_encoders/qwen_fp8_scaled.safetensors": scaled(qwen, "layers."),
        "diffusion_models/wan.safetensors": wan,
        "diffusion_models/wan_fp8_scaled.safetensors": scaled(wan, "blocks."),
        "vae/wan_vae.safetensors": as_comfyui_has_it(vae.first_stage_model),
        "lightbagel/parts/fusion.safetensors": load_file(NANO / "fusion.safetensors"),
    }
    for name, state in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save_file({n: t.contiguous() for n, t in state.items()}, root / name)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        (root / "lightbagel" / "parts" / file).write_bytes((NANO / file).read_bytes())
    for kind in ("text_encoders", "diffusion_models", "vae", "lightbagel"):
        folder_paths.add_model_folder_path(kind, str(root / kind))
    folder_paths.filename_list_cache.clear()
    return root


def load(host, dtype: str = "float32", **files: str) -> Any:
    return host("LightBagelLoader", checkpoint="parts", weight_dtype=dtype, **files)


def edited(host, parts: Any) -> Any:
    image, _ = host(
        "LightBagelEdit", *parts, images={"image0": tensor(source())}, instruction=INSTRUCTION, image_guidance=1.0,
        **SETTINGS,
    )  # fmt: skip
    return pixels(image)


@pytest.fixture(scope="module")
def reference(core):
    return core.edit(source(), INSTRUCTION, seed=SEED, steps=STEPS, text_guidance=2.0, solver="euler", progress=False)[
        0
    ]


PLAIN = {
    "text_encoder": "qwen.safetensors",
    "diffusion_model": "wan.safetensors",
    "vae_file": "wan_vae.safetensors",
}


def test_a_model_put_together_from_what_people_own(host, owned, reference):
    assert psnr(edited(host, load(host, **PLAIN)), reference) > 45


def test_float8_files_stay_float8_and_draw_nearly_the_same(host, owned, reference):
    files = PLAIN | {"text_encoder": "qwen_fp8_scaled.safetensors", "diffusion_model": "wan_fp8_scaled.safetensors"}
    parts = load(host, "default", **files)
    assert psnr(edited(host, parts), reference) > 20
    wan, und = parts[0].model.diffusion_model, parts[1].cond_stage_model.und.vlm
    for weight in (wan.blocks[0].ffn[0].weight, und.model.language_model.layers[0].mlp.up_proj.weight):
        assert size(weight) == pytest.approx(weight.numel(), rel=0.01)  # a byte each
    wide = load(host, "float32", **files)
    assert psnr(edited(host, wide), edited(host, parts)) > 35  # the same weights, widened once


def test_a_float8_vae_is_widened_by_its_scales(host, owned, loaded):
    state = load_file(owned / "vae" / "wan_vae.safetensors")
    name = "decoder.middle.0.residual.2.weight"
    scale = state[name].abs().amax().float() / 448
    exact = {**state, name: (state[name] / scale).to(torch.float8_e4m3fn).float() * scale}
    small = {
        **state,
        name: (state[name] / scale).to(torch.float8_e4m3fn),
        name.replace("weight", "scale_weight"): scale,
    }
    images = []
    for file, each in (("exact", exact), ("small", small)):
        save_file(each, owned / "vae" / f"{file}.safetensors")
        vae = load(host, **PLAIN | {"vae_file": f"{file}.safetensors"})[2]
        noise = torch.randn(1, 48, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        images.append(host("VAEDecode", vae, {"samples": noise}))
    assert torch.allclose(*images, atol=1e-5)


@pytest.mark.parametrize("weight_dtype", ["default", "bfloat16"])
def test_comfyui_started_for_float8(host, monkeypatch, reference, weight_dtype):
    """--fp8_e4m3fn-unet means float8 matrices, as fp8_e4m3fn in the loader does, where nothing else is chosen there."""
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "unet_dtype", lambda *_, **__: torch.float8_e4m3fn)
    parts = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype=weight_dtype)
    weight = parts[0].model.diffusion_model.blocks[0].ffn[0].weight
    assert (size(weight) == weight.numel()) == (weight_dtype == "default")
    assert psnr(edited(host, parts), reference) > 20


def test_float8_can_be_asked_for(host, reference):
    parts = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="fp8_e4m3fn")
    assert psnr(edited(host, parts), reference) > 20
    fusion = fusion_of(parts[0])
    und = parts[1].cond_stage_model.und.vlm
    blocks = parts[0].model.diffusion_model.blocks[2], fusion.layers[1], und.model.language_model.layers[3]
    for weight in (w for block in blocks for w in block.parameters() if w.ndim == 2):
        assert size(weight) == weight.numel()
    answer = host(
        "LightBagelDescribe", parts[1], image=tensor(source()), question="describe the image", max_length=32,
        sampling_mode={"sampling_mode": "off"},
    )  # fmt: skip
    assert "circle" in answer


def size(weight: Any) -> int:
    """Bytes of a weight, also of one of ComfyUI's quantised kind."""
    return int(getattr(weight, "_qdata", weight).nbytes)


def test_fusion_from_a_file_of_its_own(host, owned, loaded):
    model = host("LightBagelApplyFusion", model=loaded[0], fusion="parts")
    found = model.get_additional_models_with_key("lightbagel")[0].model.state_dict()
    for name, weight in load_file(NANO / "fusion.safetensors").items():
        assert torch.equal(found[name].float(), weight.float()), name


def test_a_part_that_no_file_brings_is_asked_for(host, owned):
    with pytest.raises(ValueError, match="lacks the generation component"):
        load(host, **{k: v for k, v in PLAIN.items() if k != "diffusion_model"})
    (owned / "text_encoders" / "wan.safetensors").write_bytes((owned / "diffusion_models/wan.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"understanding component in .*wan\.safetensors does not fit"):
        load(host, **PLAIN | {"text_encoder": "wan.safetensors"})


@pytest.mark.parametrize("dtype", ["bfloat16", "fp8_e4m3fn"])
def test_all_weights_of_ours_are_in_comfyuis_own_layers(host, dtype):
    """Where not everything fits a card, ComfyUI streams the weights of its own layers and leaves others behind."""
    model, clip, _ = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype=dtype)
    fusion = fusion_of(model)
    for module in (fusion.layers, clip.cond_stage_model):
        for name, inner in module.named_modules():
            assert not list(inner.parameters(recurse=False)) or hasattr(inner, "comfy_cast_weights"), name
    encoder = clip.cond_stage_model
    encoder.set_clip_options({"execution_device": torch.device("meta")})
    buffers = dict(encoder.named_buffers())
    assert buffers
    assert all(buffer.is_meta for buffer in buffers.values())


@pytest.mark.parametrize("dtype", ["float32", "fp8_e4m3fn"])
def test_streamed_weights_draw_the_same(host, monkeypatch, dtype):
    """As on a card with no room at all: every layer fetches its weights when it is used."""
    import comfy.model_management
    from comfy.model_patcher import ModelPatcher

    parts = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype=dtype)
    expected = edited(host, parts)
    comfy.model_management.unload_all_models()
    load_whole = ModelPatcher.load

    def load_nothing(self: Any, device_to: Any = None, lowvram_model_memory: int = 0, *_: Any, **__: Any) -> None:
        load_whole(self, device_to, 1)

    monkeypatch.setattr(ModelPatcher, "load", load_nothing)
    parts[1].cond_stage_model.recent.made.clear()
    assert psnr(edited(host, parts), expected) > 60
    for part in (parts[0].model, parts[1].cond_stage_model):
        assert part.model_lowvram
        assert part.model_loaded_weight_memory < 1000
    comfy.model_management.unload_all_models()


def test_reading_a_checkpoint_copies_no_weights(host):
    """What needs no other dtype lies in the mapped file until ComfyUI moves it; so do the VLM's matrices by default,
    also where it computes in float32, as on a CPU and on cards without bfloat16.
    """
    model = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float16")[0]
    clip = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="default")[1]
    language = clip.cond_stage_model.und.vlm.model.language_model
    lines = [line.split() for line in Path("/proc/self/maps").read_text("utf-8").splitlines() if "nano/" in line]
    spans = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    for module in (model.model.diffusion_model, language.layers):
        for name, weight in module.named_parameters():
            if weight.ndim == 2:
                assert any(low <= weight.data_ptr() < high for low, high in spans), name


def test_text_is_read_as_before(host, owned, loaded):
    """The same conditioning from ComfyUI's layers as from torch's."""
    ours = host("CLIPTextEncode", loaded[1], PROMPT)[0][0]
    theirs = host("CLIPTextEncode", load(host, **PLAIN)[1], PROMPT)[0][0]
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_real_models_files_open_in_comfyui(host, tmp_path, monkeypatch):
    """Names and shapes of the 7B + 5B model: sparse files as large as the real ones, ComfyUI's own classes."""
    import folder_paths
    from comfy.text_encoders.qwen_image import Qwen25_7BVLITokenizer

    for path in (PACK, PACK / "tests"):
        monkeypatch.syspath_prepend(str(path))
    from format_files import authors, qwen_release, save_hollow

    from lightbagel_core.config import PUBLISHED
    from lightbagel_core.files.components import build_components
    from lightbagel_core.files.formats import read_config
    from lightbagel_core.files.key_maps import original_vae_name
    from lightbagel_core.model import chat

    with torch.device("meta"):
        states = {part: module.state_dict() for part, module in build_components(read_config(PUBLISHED)).items()}
    qwen = ((qwen_release(name), like) for name, like in states["understanding"].items())
    vae = ((original_vae_name(name, 2), like) for name, like in states["vae"].items())
    save_hollow(authors(states).items(), tmp_path / "lightbagel" / "ema.safetensors")
    save_hollow(qwen, tmp_path / "text_encoders" / "real_qwen.safetensors", torch.float8_e4m3fn)
    save_hollow(vae, tmp_path / "vae" / "real_vae.safetensors", torch.float16)
    for kind in ("text_encoders", "vae", "lightbagel"):
        folder_paths.add_model_folder_path(kind, str(tmp_path / kind))
    folder_paths.filename_list_cache.clear()
    opened = {"checkpoint": "ema.safetensors", "vae_file": "real_vae.safetensors", "weight_dtype": "bfloat16"}
    model, clip, made = host("LightBagelLoader", **opened)
    wan = model.model.diffusion_model
    stack = sum(p.numel() for p in wan.lightbagel.parameters())
    assert sum(p.numel() for p in wan.parameters()) - stack == 4_999_787_712
    assert model.model_size() == pytest.approx(2 * (4_999_787_712 + stack), rel=0.01)
    assert (wan.num_layers, wan.dim) == (30, 3072)
    assert sum(p.numel() for p in clip.cond_stage_model.parameters()) == 8_292_166_656
    assert sum(p.numel() for p in made.first_stage_model.parameters()) == 704_688_668
    text = "two men, naïve, 画一只猫  in 4K\n(1:1.5) don't"
    theirs = Qwen25_7BVLITokenizer().tokenizer(text, add_special_tokens=False)["input_ids"]
    assert clip.cond_stage_model.und.text_ids(text) == [151644, *theirs, 151645]
    turn = [source(size=(56, 56))], "what is it?"
    asked = chat.chat_inputs(clip.cond_stage_model.und, [turn])["input_ids"][0].tolist()
    assert asked.count(151655) == 4  # a token for each 28 pixels squared
    with pytest.raises(ValueError, match=r"real_qwen\.safetensors is damaged: .* is 0\.0, which is no scale"):
        host("LightBagelLoader", **opened, text_encoder="real_qwen.safetensors")  # a hole has scales of zero
