"""Names in other people's files for ours, there and back; how whole files open with them is in test_formats.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from format_files import author_fusion, patch_linear, qwen_release, wan_original
from tiny import tiny_config

from lightbagel_core.files import key_maps
from lightbagel_core.files.components import build_components


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    with torch.device("meta"):
        return {name: module.state_dict() for name, module in build_components(tiny_config()).items()}


@pytest.mark.parametrize(
    ("released", "here"),
    [
        ("visual.blocks.0.attn.qkv.weight", "model.visual.blocks.0.attn.qkv.weight"),
        ("model.layers.3.mlp.up_proj.weight", "model.language_model.layers.3.mlp.up_proj.weight"),
        ("model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)
def test_qwens_release_has_shorter_names(released, here):
    assert key_maps.qwen_name(released) == here
    assert key_maps.qwen_name(here) == here


def test_every_name_of_the_vlm_comes_back(states):
    for name in states["understanding"]:
        assert key_maps.qwen_name(qwen_release(name)) == name


def test_every_name_of_the_dit_comes_back(states):
    originals = {wan_original(name): name for name in states["generation"]}
    assert len(originals) == len(states["generation"])
    back = key_maps.diffusers_transformer_name(originals)
    assert {original: back(original) for original in originals} == originals


def test_a_tensor_of_the_dit_under_two_names_is_refused(states):
    originals = [*map(wan_original, states["generation"]), "proj_out.bias"]  # which head.head.bias is already
    with pytest.raises(ValueError, match="stand there twice, under two names"):
        key_maps.original_transformer_names(originals)


@pytest.mark.parametrize(
    ("here", "original"),
    [
        ("quant_conv.weight", "conv1.weight"),
        ("post_quant_conv.bias", "conv2.bias"),
        ("encoder.conv_in.weight", "encoder.conv1.weight"),
        ("encoder.norm_out.gamma", "encoder.head.0.gamma"),
        ("decoder.conv_out.weight", "decoder.head.2.weight"),
        ("decoder.mid_block.attentions.0.to_qkv.weight", "decoder.middle.1.to_qkv.weight"),
        ("encoder.mid_block.resnets.1.conv2.weight", "encoder.middle.2.residual.6.weight"),
        ("encoder.down_blocks.1.resnets.0.norm1.gamma", "encoder.downsamples.1.downsamples.0.residual.0.gamma"),
        ("encoder.down_blocks.1.resnets.0.conv_shortcut.bias", "encoder.downsamples.1.downsamples.0.shortcut.bias"),
        (
            "encoder.down_blocks.0.downsampler.resample.1.weight",
            "encoder.downsamples.0.downsamples.2.resample.1.weight",
        ),
        ("decoder.up_blocks.0.upsampler.time_conv.weight", "decoder.upsamples.0.upsamples.3.time_conv.weight"),
    ],
)
def test_names_of_the_vae(here, original):
    assert key_maps.original_vae_name(here, res_blocks=2) == original


def test_no_two_names_of_the_vae_become_one(states):
    blocks = tiny_config().vae["num_res_blocks"]
    assert len({key_maps.original_vae_name(n, blocks) for n in states["vae"]}) == len(states["vae"])


@pytest.mark.parametrize("old", [False, True])
def test_the_authors_file_is_sorted_into_its_models(states, old):
    fusion = author_fusion(states["fusion"], 64, old)
    layers = tiny_config().fusion.layers
    dead = [name for name in fusion if "q_und_proj" in name or "o_und_proj" in name]
    assert len(dead) == 3 * layers
    others = {
        "vision_language_model.lm_head.weight": ("understanding", "lm_head.weight"),
        "vgen_model.head.modulation": ("generation", "head.modulation"),
        "surprise": ("unknown", "surprise"),
    }
    found = key_maps.author_names([*fusion, *others], layers)
    assert found["fusion"].keys() == states["fusion"].keys()
    assert sorted(found["fusion"].values()) == sorted(set(fusion) - set(dead))
    for name, (where, there) in others.items():
        assert found[where] == {there: name}
    beyond = dead[0].replace("attn_layers.0.", f"attn_layers.{layers}.")  # of a layer that is not there
    assert beyond in key_maps.author_names([beyond], layers)["unknown"]


def test_patches_as_a_linear_are_those_of_the_convolution():
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(7, 5, 1, 2, 2, generator=generator), torch.randn(1, 5, 1, 2, 2, generator=generator)
    linear = patch_linear(weight)
    back = key_maps.unfolded_patches(linear, channels=5)
    assert torch.equal(back, weight)
    patch = x.permute(0, 2, 3, 4, 1).flatten(1)  # frame, row, column, channel
    torch.testing.assert_close(F.conv3d(x, back).flatten(1), F.linear(patch, linear))
