"""The node contract, and what people connect by mistake."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PACK, comfyui
from helpers import INSTRUCTION, PROMPT, SEED, SETTINGS, SIDE, counted, pixels, psnr, source, tensor
from PIL import Image

LORA = ["fusion_lora", "fusion_lora_strength"]
CONTRACT = {
    "LightBagelLoader": (
        ["checkpoint", "weight_dtype", "text_encoder", "diffusion_model", "vae_file", *LORA],
        ["MODEL", "CLIP", "VAE"],
    ),
    "LightBagelApplyFusion": (["model", "fusion", *LORA], ["MODEL"]),
    "LightBagelTextEncode": (["clip", "prompt", "vae", "images", "history"], ["CONDITIONING"]),
    "LightBagelGenerate": (["model", "clip", "vae", "prompt", "width", "height", "batch_size"], ["IMAGE", "LATENT"]),
    "LightBagelEdit": (["model", "clip", "vae", "images", "instruction", "mask"], ["IMAGE", "LATENT"]),
    "LightBagelDescribe": (["clip", "image", "question", "max_length", "sampling_mode"], ["STRING"]),
    "LightBagelRewritePrompt": (
        ["clip", "prompt", "images", "task", "system_prompt", "max_length", "sampling_mode", "thinking"],
        ["STRING", "STRING"],
    ),
}


@pytest.mark.parametrize("node_id", CONTRACT)
def test_ids_and_sockets_are_a_promise(host, node_id):
    schema = host.mappings[node_id].define_schema()
    inputs, outputs = CONTRACT[node_id]
    assert [i.id for i in schema.inputs][: len(inputs)] == inputs
    assert [o.io_type for o in schema.outputs] == outputs
    assert schema.category == "LightBagel"
    assert schema.search_aliases
    assert (PACK / "web" / "docs" / f"{node_id}.md").is_file()


def edit(host: Any, loaded: Any, **changed: Any) -> Any:
    inputs = {"images": {"image0": tensor(source())}, "instruction": INSTRUCTION, "image_guidance": 1.0, **SETTINGS}
    return host("LightBagelEdit", *loaded, **{**inputs, **changed})


def test_a_mask_keeps_every_pixel_it_leaves_out(host, loaded):
    mask = torch.zeros(1, 64, 64)  # of another size than the picture
    mask[:, :, :32] = 1
    image, _ = edit(host, loaded, mask=mask)
    assert np.abs(pixels(image)[:, 54:].astype(int) - np.asarray(source())[:, 54:]).max() <= 1
    assert psnr(pixels(image)[:, :44], np.asarray(source())[:, :44]) < 40


def test_masks_in_a_batch_or_alone(host, loaded):
    """A batch of masks means its first; a mask without a batch is a mask."""
    masks = torch.zeros(2, SIDE, SIDE)
    masks[0, :, :32], masks[1, :, 64:] = 1, 1
    first, batch, alone = (edit(host, loaded, mask=mask)[1]["samples"] for mask in (masks[:1], masks, masks[0]))
    assert torch.equal(first, batch)
    assert torch.equal(first, alone)


def test_no_black_picture(host, loaded):
    """Numbers that broke on the way end in a message."""
    model = loaded[0].clone()
    model.set_model_patch_replace(lambda args, extra: {"img": args["img"] * torch.nan}, "dit", "double_block", 5)
    with pytest.raises(ValueError, match=r"no numbers.*weight_dtype"):
        edit(host, [model, *loaded[1:]])


def describe(host: Any, loaded: Any, image: Any = None, **settings: Any) -> str:
    mode = {"sampling_mode": "on", "temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 0}
    mode |= {"repetition_penalty": 1.0, **settings}
    return host(
        "LightBagelDescribe",
        loaded[1],
        image=tensor(source()) if image is None else image,
        question="Describe the image",
        max_length=24,
        sampling_mode={"sampling_mode": "off"} if mode["sampling_mode"] == "off" else mode,
    )


def test_answers_by_chance(host, loaded):
    """Each setting of the sampling mode acts; the same seed gives the same answer. Of a picture that shows nothing it
    knows: of others the nano is sure.
    """
    noise = torch.rand((1, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0))
    surest = describe(host, loaded, noise, sampling_mode="off")
    drawn = [describe(host, loaded, noise, seed=seed) for seed in range(6)]
    assert drawn == [describe(host, loaded, noise, seed=seed) for seed in range(6)]
    assert len(set(drawn)) > 1
    for sure in ({"top_k": 1}, {"top_p": 0.001}, {"min_p": 1.0}, {"temperature": 0.01}):
        assert {describe(host, loaded, noise, seed=seed, **sure) for seed in range(3)} == {surest}
    assert describe(host, loaded, noise, top_k=1, repetition_penalty=0.01) != surest


def test_a_description_can_be_cancelled(host, loaded):
    import comfy.model_management as management

    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        describe(host, loaded)
    assert describe(host, loaded)


def test_stock_generate_text_sees_the_picture(host, loaded):
    """ComfyUI's own Generate Text on our CLIP: what Describe says."""
    if "TextGenerate" not in host.mappings:
        pytest.skip("this ComfyUI has no Generate Text")
    text = host(
        "TextGenerate",
        clip=loaded[1],
        prompt="Describe the image",
        max_length=24,
        sampling_mode={"sampling_mode": "off"},
        image=tensor(source()),
    )
    assert text == describe(host, loaded, sampling_mode="off")


def test_an_image_can_be_tiny(host, loaded):
    image, _ = edit(host, loaded, images={"image0": tensor(Image.new("RGB", (1, 1), "white"))}, steps=1)
    assert image.shape == (1, 32, 32, 3)


def test_grey_and_alpha_pictures_are_pictures(host, loaded):
    clip = loaded[1]
    picture = np.asarray(source().convert("RGBA"), np.float32) / 255
    for image in (torch.from_numpy(picture)[None], torch.from_numpy(picture[..., :1].copy())[None]):
        text = host(
            "LightBagelDescribe", clip, image=image, question="how many shapes are there?", max_length=8,
            sampling_mode={"sampling_mode": "off"},
        )  # fmt: skip
        assert text in ("two", "one")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": {}}, "no image is connected"),
        ({"instruction": " "}, "instruction is empty"),
        ({"instruction": "make the dog blue"}, "does not know: dog"),
        ({"images": {"image0": torch.full((1, 64, 64, 3), torch.nan)}}, "no numbers"),
        ({"images": {"image0": torch.ones(1, 1, 900, 3)}}, "too narrow"),
        ({"guidance_from": 0.2, "guidance_to": 0.8}, "guidance_from must be larger"),
    ],
)
def test_what_cannot_be_edited_is_said(host, loaded, changed, message):
    with pytest.raises(ValueError, match=message):
        edit(host, loaded, **changed)


def sample(host: Any, model: Any, cond: Any, frames: int = 1) -> Any:
    latent = {"samples": torch.zeros(1, 48, frames, 8, 8)}
    return host("KSampler", model, 0, 1, 1.0, "euler", "simple", cond, cond, latent)


def test_strangers_on_our_sockets_are_named(host, loaded):
    model, clip, vae = loaded
    draw = {"prompt": PROMPT, "width": SIDE, "height": SIDE, "batch_size": 1, **SETTINGS}

    class Other:
        cond_stage_model, latent_channels = torch.nn.Linear(1, 1), 16

    with pytest.raises(ValueError, match="needs the CLIP of Load LightBagel"):
        host("LightBagelGenerate", model, Other(), vae, **draw)
    with pytest.raises(ValueError, match="needs a Wan2\\.2 VAE with 48 latent channels"):
        host("LightBagelTextEncode", clip, INSTRUCTION, vae=Other(), images={"image0": tensor(source())})
    bare = model.clone()
    for kind in list(bare.wrappers):
        bare.remove_wrappers_with_key(kind, "lightbagel")
    with pytest.raises(ValueError, match="needs a MODEL with LightBagel's fusion stack"):
        host("LightBagelGenerate", bare, clip, vae, **draw)
    with pytest.raises(ValueError, match=r"needs a Wan2\.2 VAE with 48 latent channels"):
        host("LightBagelGenerate", model, clip, Other(), **draw)
    foreign = [[torch.zeros(1, 4, 4096), {}]]
    with pytest.raises(ValueError, match="listens to LightBagel's own text encoder"):
        sample(host, model, foreign)
    joined = host("ConditioningConcat", *(host("CLIPTextEncode", clip, p) for p in (PROMPT, "a red circle")))
    with pytest.raises(ValueError, match="joined from several"):
        sample(host, model, joined)
    states, rest = host("CLIPTextEncode", clip, PROMPT)[0]
    with pytest.raises(ValueError, match="another LightBagel checkpoint"):
        sample(host, model, [[states[..., :256], rest]])
    referring = host("ReferenceLatent", conditioning=[[states, rest]], latent={"samples": torch.zeros(1, 48, 8, 8)})
    with pytest.raises(ValueError, match="does not hear a ReferenceLatent"):
        sample(host, model, referring)
    with pytest.raises(ValueError, match="takes no pictures from this node"):
        clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT, images=[tensor(source())]))
    unsaid = host("CLIPTextEncode", clip, "")
    with pytest.raises(ValueError, match="9 frames"):
        sample(host, model, unsaid, frames=9)


def test_checkpoints_are_listed_and_damage_is_named(host, tmp_path):
    import folder_paths

    folder_paths.add_model_folder_path("lightbagel", str(tmp_path))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{", "utf-8")
    (broken / "fusion.safetensors").write_text("{", "utf-8")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    (tmp_path / "not a checkpoint").mkdir()
    (tmp_path / ".half.writing").mkdir()
    (tmp_path / ".half.writing" / "fusion.safetensors").write_text("{", "utf-8")
    names = host.mappings["LightBagelLoader"].define_schema().inputs[0].options
    assert names[0] == "nano (built in)"
    assert not {"not a checkpoint", ".half.writing"} & set(names)
    for name in ("broken", "cut.safetensors"):
        assert name in names
        with pytest.raises(ValueError, match=f"{name}.* is damaged"):
            host("LightBagelLoader", checkpoint=name, weight_dtype="default")
    with pytest.raises(ValueError, match="there is no LightBagel checkpoint 'gone'"):
        host("LightBagelLoader", checkpoint="gone", weight_dtype="default")


def test_heavy_imports_wait_until_a_node_runs():
    """Registering the nodes imports neither transformers nor diffusers by our doing."""
    code = f"""
import sys
sys.path.insert(0, {str(comfyui())!r})
from comfy.cli_args import args
args.cpu = True
import folder_paths, torch
from comfy_api.latest import io, ui, ComfyExtension
before = set(sys.modules)
sys.path.insert(0, {str(PACK.parent)!r})
import importlib
importlib.import_module({PACK.name!r} + ".nodes")
new = {{name.split(".")[0] for name in set(sys.modules) - before}}
assert not new & {{"transformers", "diffusers"}}, new
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=comfyui())


@pytest.fixture
def calls(loaded, monkeypatch) -> dict[str, int]:
    """How often the VAE encoded a picture, the VLM a prompt and its ViT the pictures."""
    _, clip, vae = loaded
    calls: dict[str, int] = {}
    counted(monkeypatch, calls, vae, "encode", "vae")
    counted(monkeypatch, calls, clip.cond_stage_model, "encode_token_weights", "clip")
    counted(monkeypatch, calls, clip.cond_stage_model.und.vlm.model, "get_image_features", "vit")
    return calls


@pytest.mark.parametrize(("text", "image", "prompts"), [(2.0, 1.5, 3), (2.0, 1.0, 2), (1.0, 1.0, 1)])
def test_an_edit_encodes_each_source_once_and_only_what_guidance_asks(host, loaded, calls, text, image, prompts):
    edit(host, loaded, steps=1, text_guidance=text, image_guidance=image)
    assert calls == {"vae": 1, "clip": prompts, "vit": 1}


def test_another_seed_encodes_nothing_again(host, loaded, calls):
    """Nor does a mask; another word does, and another picture, even one of the same content."""
    images = {"image0": tensor(source())}
    first = edit(host, loaded, images=images, steps=1)
    once = dict(calls)
    second = edit(host, loaded, images=images, steps=1, seed=SEED + 1, mask=torch.ones(1, 8, 8))
    assert calls == once
    assert not torch.equal(first[0], second[0])
    edit(host, loaded, images={"image0": images["image0"].clone()}, steps=1)
    assert calls == {name: 2 * count for name, count in once.items()}
    edit(host, loaded, images=images, steps=1, instruction="make the circle green")
    assert calls == {name: 3 * count for name, count in once.items()}
    draw = {"prompt": PROMPT, "width": SIDE, "height": SIDE, "batch_size": 1, **SETTINGS, "steps": 1}
    calls.update(clip=0)
    for seed in (0, 1):
        host("LightBagelGenerate", *loaded, **draw | {"seed": seed})
    host("LightBagelGenerate", loaded[0], loaded[1].clone(), loaded[2], **draw)  # as with a LoRA on the CLIP
    assert calls["clip"] == 4
