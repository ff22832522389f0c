"""LoRAs trained here, in ComfyUI: the fusion stack's by our own nodes, the DiT's by ComfyUI's loaders."""

from __future__ import annotations

import json
import logging
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PACK
from helpers import INSTRUCTION, PROMPT, SEED, SETTINGS, SIDE, STEPS, fusion_of, ksampler, pixels, psnr, source, tensor
from safetensors.torch import load_file, save_file

NANO = "nano (built in)"
PREFIX = {"generation": "diffusion_model.", "fusion": "diffusion_model.lightbagel."}
RANK = 4
SAME, CLOSE, OTHER = 45.0, 60.0, 35.0  # dB: of two hosts, of two ways in one, of other weights
LAYER, NORM = "diffusion_model.lightbagel.layers.1.gen_out.weight", "blocks.1.self_attn.norm_q.weight"


def made(component: str, weights: dict[str, torch.Tensor], share: float = 0.8) -> dict[str, torch.Tensor]:
    """A LoRA drawn by chance, of all the matrices of a component's layers, as training here names its tensors; what it
    adds to a matrix is a share of that in size.
    """
    generator = torch.Generator().manual_seed(len(weights))
    state = {}
    for weight, stored in weights.items():
        shapes = (RANK, stored.shape[1]), (stored.shape[0], RANK)
        down, up = (torch.randn(shape, generator=generator) for shape in shapes)
        up *= share * stored.float().norm() / (up @ down).norm()
        name = PREFIX[component] + weight.removesuffix(".weight")
        state |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": 2 * up}
        state[f"{name}.alpha"] = torch.tensor(RANK / 2)  # at strength 1 the half of both halves' product
    return state


@pytest.fixture(scope="module")
def files(host, loaded, tmp_path_factory) -> Path:
    """A folder of LoRAs that ComfyUI lists: of the DiT, of the fusion stack, of both, of models of other sizes."""
    import folder_paths

    stack = load_file(PACK / "lightbagel_core" / "nano" / "fusion.safetensors")
    named = {"generation": dict(loaded[0].model.diffusion_model.named_parameters()), "fusion": stack}
    matrices = {
        component: {
            name: weight
            for name, weight in weights.items()
            if name.startswith(("blocks.", "layers.")) and name.endswith("weight") and weight.ndim == 2
        }
        for component, weights in named.items()
    }
    with torch.no_grad():
        states = {component: made(component, weights) for component, weights in matrices.items()}
    states["differences"] = {  # beside a matrix, of what is none: a norm, a bias, and two that are no layer's
        "diffusion_model.blocks.1.self_attn.norm_q.diff": 0.5 * torch.randn(named["generation"][NORM].shape),
        "diffusion_model.blocks.1.ffn.2.diff_b": torch.randn(named["generation"]["blocks.1.ffn.2.bias"].shape),
        "diffusion_model.blocks.1.modulation.diff": torch.randn(named["generation"]["blocks.1.modulation"].shape),
        "diffusion_model.lightbagel.context.diff": torch.randn(stack["context"].shape),
        **{name: x for name, x in states["fusion"].items() if ".layers.1." in name},
    }
    states["both"] = states["generation"] | states["fusion"]
    states["deeper"] = {name.replace("layers.0.", "layers.30."): x for name, x in states["fusion"].items()}
    states["wider"] = {name: torch.cat([x, x], -1) if x.ndim else x for name, x in states["fusion"].items()}
    states["other dit"] = {name.replace("blocks.0.", "blocks.30."): x for name, x in states["both"].items()}
    states["stranger"] = {"lora_unet_mid_block_proj.lora_down.weight": torch.ones(4, 4)}
    states["stranger"]["lora_unet_mid_block_proj.lora_up.weight"] = torch.ones(4, 4)
    root = tmp_path_factory.mktemp("loras")
    for name, state in states.items():
        said = {"component": name if name in PREFIX else list(PREFIX), "base": "a model"}
        tensors = {weight: x.contiguous() for weight, x in state.items()}
        save_file(tensors, root / f"{name}.safetensors", {"lightbagel": json.dumps(said)})
    (root / "pickled.pt").write_bytes(b"")
    folder_paths.add_model_folder_path("loras", str(root))
    folder_paths.filename_list_cache.clear()
    return root


def load(host: Any, lora: str = "none", strength: float = 1.0, **inputs: Any) -> Any:
    """(MODEL, CLIP, VAE) of the nano with a LoRA on its stack."""
    chosen = {"fusion_lora": f"{lora}.safetensors" if lora != "none" else lora, "fusion_lora_strength": strength}
    return host("LightBagelLoader", **{"checkpoint": NANO, "weight_dtype": "float32", **chosen, **inputs})


def stock(host: Any, model: Any, lora: str, strength: float = 1.0) -> Any:
    return host("LoraLoaderModelOnly", model, f"{lora}.safetensors", strength)


@torch.no_grad()
def weight_of(patcher: Any, name: str) -> torch.Tensor:
    """A weight with its patches, as ComfyUI computes it when it loads the model."""
    patcher.unpatch_model()
    weight = patcher.patch_weight_to_device(name, return_weight=True)
    return getattr(weight, "dequantize", lambda: weight)().float()


@pytest.fixture
def drawn(host, loaded, prompts) -> Any:
    """A picture by a MODEL, of stock nodes."""

    def draw(model: Any, conditions: Any = prompts, **changed: Any) -> Any:
        return pixels(host("VAEDecode", loaded[2], {"samples": ksampler(host, model, conditions, **changed)}))

    return draw


# --- two hosts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strengths", "task"),
    [
        ({"fusion": 1.0}, "generate"),
        ({"generation": 0.7}, "generate"),
        ({"fusion": 0.8, "generation": 0.6}, "edit"),
        ({"differences": 0.5}, "generate"),
        ({"fusion": -0.6, "generation": -0.5}, "generate"),
    ],
    ids=str,
)
def test_the_command_lines_picture(host, loaded, core, files, strengths, task):
    """From the same files at the same strengths, below zero too; and not the picture without them."""
    from lightbagel_core import LightBagel

    loras = {files / f"{name}.safetensors": strength for name, strength in strengths.items()}
    ours = LightBagel.from_pretrained("nano", "cpu", loras=loras)
    ours.need("understanding", "generation", "fusion", "vae")
    model = loaded[0]
    for name in ("fusion", "differences"):
        if name in strengths:
            model = load(host, name, strengths[name])[0]
    if "generation" in strengths:
        model = stock(host, model, "generation", strengths["generation"])
    settings = {"seed": SEED, "steps": STEPS, "text_guidance": 2.0, "solver": "euler", "progress": False}
    if task == "edit":
        given = {"images": {"image0": tensor(source())}, "instruction": INSTRUCTION, "image_guidance": 1.5}
        image, _ = host("LightBagelEdit", model, *loaded[1:], **given, **SETTINGS)
        expected, plain = (m.edit(source(), INSTRUCTION, image_guidance=1.5, **settings)[0] for m in (ours, core))
    else:
        size = {"width": SIDE, "height": SIDE}
        image, _ = host("LightBagelGenerate", model, *loaded[1:], prompt=PROMPT, batch_size=1, **size, **SETTINGS)
        expected, plain = (m.generate(PROMPT, **size, **settings)[0] for m in (ours, core))
    assert psnr(pixels(image), expected) > SAME
    assert psnr(expected, plain) < OTHER


# --- what acts -------------------------------------------------------------------------------------------------------


def test_every_way_to_the_stack_is_one(host, loaded, files, drawn):
    """By Load LightBagel, by Apply LightBagel Fusion, by ComfyUI's own loader; the original MODEL draws as before."""
    plain = drawn(loaded[0])
    expected = drawn(load(host, "fusion", 0.7)[0])
    assert psnr(expected, plain) < OTHER
    file = "fusion.safetensors"
    applied = host("LightBagelApplyFusion", loaded[0], NANO, fusion_lora=file, fusion_lora_strength=0.7)
    for model in (stock(host, loaded[0], "fusion", 0.7), applied):
        assert psnr(drawn(model), expected) > CLOSE
    assert psnr(drawn(loaded[0]), plain) > CLOSE
    assert not loaded[0].patches


def test_strength_0_is_the_model_itself(host, loaded, files, drawn):
    plain = drawn(loaded[0])
    for model in (load(host, "both", 0.0)[0], stock(host, loaded[0], "both", 0.0)):
        assert not model.patches
        assert psnr(drawn(model), plain) > 80


def test_a_file_of_both_parts_acts_with_both(host, loaded, files, drawn):
    apart = stock(host, load(host, "fusion", 0.5)[0], "generation", 0.5)
    expected = drawn(apart)
    file = {"fusion_lora": "both.safetensors", "fusion_lora_strength": 0.5}
    for model in (load(host, "both", 0.5)[0], host("LightBagelApplyFusion", loaded[0], NANO, **file)):
        assert psnr(drawn(model), expected) > CLOSE
    file["fusion_lora"] = "differences.safetensors"
    beside = drawn(host("LightBagelApplyFusion", loaded[0], NANO, **file))
    # Random differences, so what the two ways round apart grows: 50 dB and more.
    assert psnr(beside, drawn(load(host, "differences", 0.5)[0])) > SAME
    assert psnr(drawn(loaded[0]), beside) < OTHER
    assert not loaded[0].patches


def test_a_clone_takes_its_own_loras(host, files):
    """Another LoRA on a clone leaves the MODEL that it came from as it is."""
    model = load(host, "fusion", 0.7)[0]
    before = weight_of(model, LAYER)
    twice = stock(host, model, "fusion", 0.7)
    assert torch.equal(weight_of(model, LAYER), before)
    assert len(twice.patches[LAYER]) == 2
    assert len(model.patches[LAYER]) == 1


@pytest.mark.parametrize("node", ["LightBagelLoader", "LightBagelApplyFusion"])
def test_it_is_there_when_comfyui_loads_the_model_again(host, loaded, files, drawn, node):
    """As for TorchCompileModel, hooks and several cards: the same weights with the same patches, each once."""
    if node == "LightBagelLoader":
        model = patcher = load(host, "fusion", 0.7)[0]
    else:
        model = host(node, loaded[0], NANO, fusion_lora="fusion.safetensors", fusion_lora_strength=0.7)
        (patcher,) = model.get_additional_models_with_key("lightbagel")
    expected = drawn(model)
    function, args = patcher.cached_patcher_init
    again = function(*args, disable_dynamic=True)
    name = LAYER if node == "LightBagelLoader" else LAYER.removeprefix(PREFIX["fusion"])
    assert [len(each) for each in again.patches.values()] == [1] * len(patcher.patches)
    assert torch.equal(weight_of(again, name), weight_of(patcher, name))
    patcher.is_dynamic = lambda: True
    try:
        anew = patcher.clone(disable_dynamic=True)
    finally:
        del patcher.is_dynamic
    assert anew.model is not patcher.model
    if node == "LightBagelApplyFusion":
        return
    assert psnr(drawn(anew), expected) > CLOSE


@pytest.mark.parametrize("dtype", ["float32", "fp8_e4m3fn"])
def test_streamed_and_float8(host, files, drawn, monkeypatch, dtype):
    """As on a card with no room at all; a float8 model is near the float32 one, with the same LoRA."""
    import comfy.model_management
    from comfy.model_patcher import ModelPatcher

    whole = drawn(load(host, "both", 0.5)[0])
    model = load(host, "both", 0.5, weight_dtype=dtype)[0]
    expected = drawn(model)
    assert psnr(expected, whole) > 38
    comfy.model_management.unload_all_models()
    load_whole = ModelPatcher.load
    monkeypatch.setattr(ModelPatcher, "load", lambda self, device_to=None, *_, **__: load_whole(self, device_to, 1))
    streamed = drawn(model)
    assert model.model.model_lowvram
    # A float8 weight that is loaded whole is rounded again with its LoRA; one that is streamed is not.
    assert psnr(streamed, expected) > (CLOSE if dtype == "float32" else 38)
    comfy.model_management.unload_all_models()


def test_hooks_add_theirs(host, loaded, files, drawn, prompts):
    """A LoRA on a hook, for the whole run, comes on top: it is as one on the MODEL."""
    hooks = host("CreateHookLoraModelOnly", lora_name="generation.safetensors", strength_model=0.5)
    pair = host(
        "PairConditioningSetProperties", positive_NEW=prompts[0], negative_NEW=prompts[1], strength=1.0,
        set_cond_area="default", hooks=hooks,
    )  # fmt: skip
    model = load(host, "fusion", 0.7)[0]
    expected = drawn(stock(host, model, "generation", 0.5))
    assert psnr(drawn(model, pair), expected) > CLOSE


@pytest.mark.parametrize("node", ["LightBagelLoader", "LightBagelApplyFusion"])
@pytest.mark.parametrize("ran", [False, True])
def test_saving_bakes_it_in(host, loaded, files, drawn, tmp_path, node, ran):
    """Also where the stack stands beside its Wan, whether ComfyUI has just loaded it or not."""
    import folder_paths

    (tmp_path / "diffusion_models").mkdir()
    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path / "diffusion_models"))
    model = load(host, "fusion", 0.7)[0]
    if node != "LightBagelLoader":
        model = host(node, loaded[0], NANO, fusion_lora="fusion.safetensors", fusion_lora_strength=0.7)
    if ran:
        drawn(model)
    saving = host.mappings["ModelSave"]()
    saving.output_dir = str(tmp_path)
    with torch.inference_mode():
        saving.save(model, f"diffusion_models/{node}-{ran}")  # of two files of one name a loader takes the first
    (file,) = (tmp_path / "diffusion_models").iterdir()
    folder_paths.filename_list_cache.clear()
    expected = weight_of(load(host, "fusion", 0.7)[0], LAYER)
    held = load_file(file)[f"model.{LAYER}"].float()  # beside a Wan the stack has the precision of its file
    assert torch.allclose(held, expected, atol=1e-3)
    assert not torch.allclose(held, weight_of(loaded[0], LAYER), atol=0.02)
    again = host("LightBagelLoader", checkpoint=NANO, weight_dtype="float32", diffusion_model=file.name)[0]
    assert psnr(drawn(again), drawn(model)) > CLOSE


def test_merging_sees_it(host, loaded, files):
    merged = host("ModelMergeSimple", load(host, "fusion", 0.7)[0], loaded[0], 0.5)
    with_it, plain = weight_of(load(host, "fusion", 0.7)[0], LAYER), weight_of(loaded[0], LAYER)
    assert torch.allclose(weight_of(merged, LAYER), (with_it + plain) / 2, atol=1e-6)


def test_a_picture_after_another_model_is_unloaded(host, loaded, files, drawn):
    """Weights with and without a LoRA take turns; each run has its own."""
    with_it = load(host, "fusion", 0.7)[0]
    first = [drawn(model) for model in (loaded[0], with_it)]
    assert psnr(*first) < OTHER
    second = [drawn(model) for model in (loaded[0], with_it)]
    for one, two in zip(first, second, strict=True):
        assert psnr(one, two) > CLOSE


# --- what is refused, and what is said -------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["LightBagelLoader", "LightBagelApplyFusion"])
@pytest.mark.parametrize(
    ("lora", "said"),
    [
        (
            "generation",
            r"generation\.safetensors is a LoRA of the DiT .* choose none as fusion_lora, .* own LoRA loader",
        ),
        ("deeper", r"deeper\.safetensors is a LoRA of another model \(a model\): this one has no .*layers\.30\."),
        ("wider", r"wider\.safetensors is a LoRA of another model \(a model\): for layers\..* it has"),
        ("other dit", r"other dit\.safetensors is a LoRA of another model \(a model\): .* no .*blocks\.30\."),
        ("stranger", r"stranger\.safetensors is a LoRA of another model \(a model\): .* no lora_unet_mid_block_proj"),
        ("gone", "gone.safetensors"),
    ],
)
def test_what_does_not_fit_is_refused(host, loaded, files, node, lora, said):
    inputs = {"checkpoint": NANO, "weight_dtype": "float32"} if node == "LightBagelLoader" else {"fusion": NANO}
    if node == "LightBagelApplyFusion":
        inputs["model"] = loaded[0]
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        host(node, **inputs, fusion_lora=f"{lora}.safetensors")


def test_a_loader_that_does_not_reach_the_stack_is_warned_of(host, loaded, files, drawn, caplog):
    """Once; not where the stack has the file from Apply LightBagel Fusion itself, nor for a LoRA of the DiT."""
    if "lora_metadata" not in signature(import_module("comfy.sd").load_lora_for_models).parameters:
        pytest.skip("this ComfyUI keeps no metadata of LoRAs; its own log names the keys that it did not load")
    said = "which it does not reach"
    applied = host("LightBagelApplyFusion", loaded[0], NANO)
    drawn(stock(host, applied, "generation"), steps=1)
    drawn(stock(host, loaded[0], "fusion"), steps=1)
    file = "fusion.safetensors"
    with_it = host("LightBagelApplyFusion", loaded[0], NANO, fusion_lora=file)
    drawn(stock(host, with_it, "both"), steps=1)
    assert said not in caplog.text
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            drawn(stock(host, applied, "fusion"), steps=1)
    assert caplog.text.count(said) == 1


# --- the node's inputs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["LightBagelLoader", "LightBagelApplyFusion"])
def test_the_list_and_what_makes_a_node_run_again(host, files, node):
    """None first, then safetensors of models/loras alone, the pack's own among them; another file is another run."""
    import folder_paths

    *_, lora, strength = host.mappings[node].define_schema().inputs
    assert (lora.id, strength.id) == ("fusion_lora", "fusion_lora_strength")
    assert lora.options[0] == lora.default == "none"
    assert "fusion.safetensors" in lora.options
    assert "pickled.pt" not in lora.options
    assert (strength.default, strength.min, strength.max, strength.step) == (1.0, -2.0, 2.0, 0.01)
    assert folder_paths.get_folder_paths("loras").index(str(PACK / "loras")) > 0
    fingerprint = host.mappings[node].fingerprint_inputs
    file = files / "fusion.safetensors"
    before = fingerprint(fusion_lora=file.name, later=1)
    assert before != fingerprint(fusion_lora="both.safetensors")
    assert fingerprint(fusion_lora="none") == fingerprint()
    file.touch()
    assert fingerprint(fusion_lora=file.name) != before


def test_nothing_may_come_by_a_link(host, files):
    assert not load(host, fusion_lora=None, fusion_lora_strength=None)[0].patches
    assert fusion_of(load(host)[0]) is not None
