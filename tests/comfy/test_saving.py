"""What ComfyUI's saving and merging nodes make of a LightBagel: whole files that open again and draw the same."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from conftest import PACK
from helpers import INSTRUCTION, PROMPT, close, empty, fusion_of, ksampler, pixels, psnr, source, tensor
from safetensors.torch import load_file, save_file

NANO = "nano (built in)"
LAYER, BLOCK = "diffusion_model.lightbagel.layers.1.gen_out.weight", "diffusion_model.blocks.2.ffn.0.weight"
BARE, RAW = "diffusion_model.lightbagel.context", "diffusion_model.blocks.1.modulation"  # in no layer of their own
OF_MODEL = (LAYER, BLOCK, BARE, RAW)


@pytest.fixture(scope="module")
def models(host, tmp_path_factory) -> Path:
    """A models folder into which the saving nodes write, as into their output folder."""
    import folder_paths

    root = tmp_path_factory.mktemp("saved")
    for kind in ("text_encoders", "diffusion_models", "vae", "lightbagel", "loras"):
        (root / kind).mkdir()
        folder_paths.add_model_folder_path(kind, str(root / kind))
    return root


@pytest.fixture(scope="module")
def other(host, models) -> Any:
    """(MODEL, CLIP, VAE) of another checkpoint: the nano with other weights everywhere."""
    copytree(PACK / "lightbagel_core" / "nano", models / "lightbagel" / "other")
    generator = torch.Generator().manual_seed(0)
    for part in ("understanding", "generation", "fusion"):
        file = models / "lightbagel" / "other" / f"{part}.safetensors"
        moved = {
            name: (weight.float() + 0.5 * weight.float().std() * torch.randn(weight.shape, generator=generator))
            if weight.numel() > 1
            else weight
            for name, weight in load_file(file).items()
        }
        file.unlink()
        save_file(moved, file)
    return load(host, "other")


@pytest.fixture(scope="module")
def bare(host) -> Any:
    """The nano's Wan as a loader that knows nothing of LightBagel gives it."""
    load = import_module(f"{host.mappings['LightBagelLoader'].__module__.rpartition('.')[0]}.host.load")
    opened = load.Files(PACK / "lightbagel_core" / "nano").open(["generation"])
    return load.wan_model(opened, torch.float32)


def save(host: Any, models: Path, node_id: str, kind: str, *parts: Any) -> str:
    """The name of the file that a saving node writes into a folder of models."""
    import folder_paths

    before = set((models / kind).iterdir())
    node = host.mappings[node_id]()
    node.output_dir = str(models)
    with torch.inference_mode():
        getattr(node, node.FUNCTION)(*parts, f"{kind}/it")
    (new,) = set((models / kind).iterdir()) - before
    folder_paths.filename_list_cache.clear()
    return new.name


def load(host: Any, checkpoint: str = NANO, weight_dtype: str = "float32", **files: str) -> Any:
    return host("LightBagelLoader", checkpoint=checkpoint, weight_dtype=weight_dtype, **files)


def drawn(host: Any, parts: Any) -> Any:
    """A small picture of stock nodes, from a model's own CLIP to its own VAE."""
    model, clip, vae = parts
    prompts = host("CLIPTextEncode", clip, PROMPT), host("CLIPTextEncode", clip, "")
    return pixels(host("VAEDecode", vae, {"samples": ksampler(host, model, prompts, empty(side=64), steps=2)}))


@torch.no_grad()
def weight_of(patcher: Any, name: str) -> torch.Tensor:
    """A weight with its patches, as ComfyUI computes it when it loads the model."""
    weight = patcher.patch_weight_to_device(name, return_weight=True)
    return getattr(weight, "dequantize", lambda: weight)().float()


def assert_merged(merged: Any, parts: tuple[Any, Any], formula: Callable[..., torch.Tensor], names: Any) -> None:
    for name in names:
        expected = formula(*(weight_of(part, name) for part in parts))
        assert not torch.allclose(expected, weight_of(parts[0], name), atol=1e-6), name
        assert torch.allclose(weight_of(merged, name), expected, rtol=1e-5, atol=1e-6), name


def lora(models: Path, name: str) -> str:
    """The name of a LoRA file on one matrix, in the form of stock LoRAs."""
    down, up = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.6 for shape in ((4, 256), (256, 4)))
    save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, models / "loras" / "it.safetensors")
    return "it.safetensors"


def test_a_checkpoint_holds_all_and_draws_the_same(host, models, loaded):
    """The very weights, the config and the tokenizer; nothing of it comes from the nano's own folder."""
    again = load(host, save(host, models, "CheckpointSave", "lightbagel", *loaded))
    for one, two in zip(loaded[:2], again[:2], strict=True):
        for (name, weight), found in zip(module_of(one).named_parameters(), module_of(two).parameters(), strict=True):
            assert torch.equal(weight, found), name
    assert again[1].cond_stage_model.config.to_dict() == loaded[1].cond_stage_model.config.to_dict()
    assert again[0].get_model_object("model_sampling").shift == loaded[0].get_model_object("model_sampling").shift
    tokenizers = [parts[1].cond_stage_model.und.tokenizer for parts in (loaded, again)]
    assert tokenizers[0](PROMPT)["input_ids"] == tokenizers[1](PROMPT)["input_ids"]
    assert tokenizers[0].chat_template == tokenizers[1].chat_template
    assert psnr(drawn(host, again), drawn(host, loaded)) > 60


def module_of(socket: Any) -> Any:
    return socket.cond_stage_model if hasattr(socket, "cond_stage_model") else socket.model


def test_three_files_with_a_lora_baked_in(host, models, loaded):
    """ModelSave, CLIPSave and VAESave; a stock LoRA acts on the fusion stack, and the MODEL's file brings its own."""
    file = lora(models, LAYER.removesuffix(".weight"))
    model = host("LoraLoaderModelOnly", loaded[0], file, 1.0)
    with_lora = weight_of(model, LAYER)
    assert not torch.allclose(with_lora, weight_of(loaded[0], LAYER), atol=1e-3)
    again = load(
        host,
        diffusion_model=save(host, models, "ModelSave", "diffusion_models", model),
        text_encoder=save(host, models, "CLIPSave", "text_encoders", loaded[1]),
        vae_file=save(host, models, "VAESave", "vae", loaded[2]),
    )
    assert torch.allclose(weight_of(again[0], LAYER), with_lora, atol=1e-6)
    expected = drawn(host, (model, *loaded[1:]))
    assert psnr(drawn(host, again), expected) > 60
    assert psnr(drawn(host, loaded), expected) < 40


def test_a_model_behind_apply_fusion(host, models, loaded, other, bare):
    """Saved with the fusion stack beside it; the Wan that it shares with other nodes is saved without."""
    applied = host("LightBagelApplyFusion", model=bare, fusion="other")
    name = save(host, models, "ModelSave", "diffusion_models", applied)
    again = load(host, diffusion_model=name)
    for key, weight in fusion_of(other[0]).state_dict().items():
        assert torch.equal(fusion_of(again[0]).state_dict()[key], weight), key
    assert psnr(drawn(host, (again[0], *loaded[1:])), drawn(host, (applied, *loaded[1:]))) > 60
    plain = load_file(models / "diffusion_models" / save(host, models, "ModelSave", "diffusion_models", bare))
    assert not [key for key in plain if "lightbagel" in key]


def test_another_stack_in_the_place_of_its_own(host, models, loaded, other):
    """Apply Fusion behind Load LightBagel: the applied one is heard, and saved."""
    applied = host("LightBagelApplyFusion", model=loaded[0], fusion="other")
    saved = load_file(models / "diffusion_models" / save(host, models, "ModelSave", "diffusion_models", applied))
    assert torch.equal(saved[f"model.{LAYER}"], weight_of(other[0], LAYER))
    assert torch.equal(saved[f"model.{BLOCK}"], weight_of(loaded[0], BLOCK))


def test_merging_two_lightbagels(host, models, loaded, other):
    """Wan and fusion stack by the formulas of the nodes' names; the picture is that of the merged weights in a file."""
    parts = loaded[0], other[0]
    merged = host("ModelMergeSimple", *parts, 0.25)
    assert_merged(merged, parts, lambda a, b: 0.25 * a + 0.75 * b, OF_MODEL)
    assert_merged(host("ModelMergeAdd", *parts), parts, lambda a, b: a + b, OF_MODEL)
    assert_merged(host("ModelMergeSubtract", *parts, 0.5), parts, lambda a, b: 0.5 * a - 0.5 * b, OF_MODEL)
    blocks = host("ModelMergeBlocks", *parts, input=0.25, middle=1.0, out=1.0)
    assert_merged(blocks, parts, lambda a, b: 0.25 * a + 0.75 * b, OF_MODEL)
    copytree(models / "lightbagel" / "other", models / "lightbagel" / "mean")
    for part in ("generation", "fusion"):
        files = [
            folder / f"{part}.safetensors"
            for folder in (PACK / "lightbagel_core" / "nano", models / "lightbagel" / "other")
        ]
        one, two = map(load_file, files)
        mean = {name: 0.25 * weight.float() + 0.75 * two[name] for name, weight in one.items()}
        save_file(mean, models / "lightbagel" / "mean" / f"{part}.safetensors")
    by_hand = load(host, "mean")[0]
    expected = drawn(host, (by_hand, *loaded[1:]))
    assert psnr(drawn(host, (merged, *loaded[1:])), expected) > 60
    again = load(host, diffusion_model=save(host, models, "ModelSave", "diffusion_models", merged))[0]
    assert psnr(drawn(host, (again, *loaded[1:])), expected) > 60
    assert psnr(drawn(host, loaded), expected) < 40


def test_merging_with_a_plain_wan_leaves_the_stack(host, loaded, other, bare):
    merged = host("ModelMergeSimple", other[0], bare, 0.5)
    assert_merged(merged, (other[0], bare), lambda a, b: (a + b) / 2, (BLOCK, RAW))
    for name in (LAYER, BARE):
        assert torch.equal(weight_of(merged, name), weight_of(other[0], name))


def test_merging_behind_apply_fusion_is_said_to_leave_the_stack(host, loaded, other, bare, caplog):
    merged = host("ModelMergeSimple", host("LightBagelApplyFusion", model=bare, fusion=NANO), other[0], 0.5)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            drawn(host, (merged, *loaded[1:]))
    assert caplog.text.count("its fusion stack was not") == 1
    caplog.clear()
    drawn(host, (host("LightBagelApplyFusion", model=bare, fusion=NANO), *loaded[1:]))
    assert "fusion stack was not" not in caplog.text


def test_merging_clips(host, models, loaded, other):
    name = "transformer.model.language_model.layers.3.mlp.up_proj.weight"
    clips = loaded[1], other[1]
    merged = host("CLIPMergeSimple", *clips, 0.25)
    assert_merged(merged.patcher, tuple(c.patcher for c in clips), lambda a, b: 0.25 * a + 0.75 * b, [name])
    again = load(host, text_encoder=save(host, models, "CLIPSave", "text_encoders", merged))[1]
    states = [host("CLIPTextEncode", clip, PROMPT)[0][0] for clip in (again, merged, loaded[1])]
    assert torch.allclose(states[0], states[1], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(states[0], states[2], rtol=1e-3, atol=1e-3)


def test_float8(host, models):
    """Stays float8 in the file, with its scales, and means the same."""
    parts = load(host, weight_dtype="fp8_e4m3fn")
    name = save(host, models, "CheckpointSave", "lightbagel", *parts)
    held = load_file(models / "lightbagel" / name)
    for key in (f"model.{BLOCK}", f"model.{LAYER}"):
        assert held[key].dtype == torch.float8_e4m3fn
    again = load(host, name, "default")
    assert psnr(drawn(host, again), drawn(host, parts)) > 60


def test_merging_float8(host, loaded, other):
    small = load(host, weight_dtype="fp8_e4m3fn")[0]
    merged = host("ModelMergeSimple", small, other[0], 0.5)
    for name in OF_MODEL:
        expected = (weight_of(small, name) + weight_of(other[0], name)) / 2
        assert torch.allclose(weight_of(merged, name), expected, rtol=0.1, atol=0.01), name


def test_conditionings_in_a_set_of_training_data(host, loaded, tmp_path):
    """Stock nodes write latents and CONDITIONINGs to a file, and read nothing from it but plain things."""
    model, clip, vae = loaded
    edit = host("LightBagelTextEncode", clip, INSTRUCTION, vae=vae, images={"image0": tensor(source())})
    text = host("CLIPTextEncode", clip, PROMPT)
    torch.save([edit, text], tmp_path / "shard.pt")
    read = torch.load(tmp_path / "shard.pt", weights_only=True)
    for before, after in zip((edit, text), read, strict=True):
        drawn = [ksampler(host, model, (each, text), empty(), cfg=1.0) for each in (before, after)]
        assert torch.equal(*drawn)
    assert not close(*(ksampler(host, model, (each, text), empty(), cfg=1.0) for each in read))
    assert deepcopy(edit)[0][1]["model_conds"]["lightbagel"] is edit[0][1]["model_conds"]["lightbagel"]
