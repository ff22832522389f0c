"""The numbers of an untrained nano are those of the one that ships."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from scenes import PAIR
from transformers import Qwen2_5_VLConfig

from lightbagel_core.config import NANO
from lightbagel_core.files.components import COMPONENTS, empty_components
from lightbagel_core.files.formats import read_config
from lightbagel_core.images import size_by_rule
from lightbagel_core.training.nano.shape import (
    GRID,
    PATCH,
    SIDE,
    VIT_SIDE,
    nano_config,
    picture,
    tokenizer,
    vit_picture,
)
from lightbagel_core.world.scenes import PLACES, SIZE

MEASURED = {"vae": ("latents_mean", "latents_std"), "": ("preview", "metadata", "understanding")}


def test_it_has_the_numbers_of_the_nano_that_ships():
    shipped, (untrained, _) = read_config(NANO / "config.json"), nano_config()
    vlms = [Qwen2_5_VLConfig(**config.understanding).to_dict() for config in (shipped, untrained)]
    turns = [{k: vlm["text_config"].pop(k, None) for k in ("rope_scaling", "rope_parameters")} for vlm in vlms]
    assert vlms[0] == vlms[1]
    # transformers 5 fills in what 4 leaves as it was written: theta, which stands beside it too, and the type
    assert len({str((turn["rope_scaling"] or turn["rope_parameters"])["mrope_section"]) for turn in turns}) == 1
    numbers = [asdict(config) for config in (shipped, untrained)]
    for each in numbers:
        for key in MEASURED[""]:
            del each[key]
        for key in MEASURED["vae"]:
            del each["vae"][key]
    assert numbers[0] == numbers[1]


def test_it_can_be_built(tmp_path):
    parts = empty_components(nano_config()[0], tmp_path)
    assert set(parts) == set(COMPONENTS)


def test_what_is_changed_in_one_config_is_not_changed_in_the_next():
    nano_config()[0].understanding["text_config"]["hidden_size"] = 1
    nano_config()[0].generation["num_layers"] = nano_config()[0].vae["z_dim"] = 1
    config, _ = nano_config()
    assert config.understanding["text_config"]["hidden_size"] == 256
    assert (config.generation["num_layers"], config.vae["z_dim"]) == (6, 48)


def test_its_words_are_those_of_the_nano_that_ships(nano):
    config, tokens = nano_config()
    assert tokens.get_vocab() == nano.und.tokenizer.get_vocab()
    assert tokens.chat_template == nano.und.tokenizer.chat_template
    assert tokens.convert_tokens_to_ids("<|image_pad|>") == config.understanding["image_token_id"]


def test_its_pictures_are_as_many_tokens_for_the_dit_as_for_the_vit():
    config, _ = nano_config()
    assert SIDE // config.vae["scale_factor_spatial"] // PATCH == GRID
    vision = config.understanding["vision_config"]
    assert VIT_SIDE // vision["patch_size"] // vision["spatial_merge_size"] == GRID
    assert (config.defaults.width, config.defaults.height) == (SIDE, SIDE) == picture(PAIR).size
    assert size_by_rule(SIDE, SIDE, config.vae_image) == (SIDE, SIDE)
    assert size_by_rule(SIDE, SIDE, config.vit_image) == (VIT_SIDE, VIT_SIDE) == vit_picture(PAIR).size
    assert config.processor == {"min_pixels": VIT_SIDE**2, "max_pixels": VIT_SIDE**2}


def test_every_place_is_in_the_middle_of_a_token():
    for x, y in PLACES.values():
        for at in (x, y):
            middle = (at + 0.5) / SIZE * GRID % 1
            assert middle == pytest.approx(0.5, abs=0.03)


def test_the_fusion_is_as_wide_as_the_dit():
    config, _ = nano_config()
    dit = config.generation
    assert config.fusion.heads == 8
    assert config.fusion.heads * config.fusion.head_dim == dit["num_attention_heads"] * dit["attention_head_dim"]


def test_a_word_is_a_token_and_one_it_does_not_know_is_known_to_be_unknown():
    tokens = tokenizer()
    ids = tokens("A large RED circle .", add_special_tokens=False)["input_ids"]
    assert tokens.convert_ids_to_tokens(ids) == ["a", "large", "red", "circle", "."]
    assert tokens("a turquoise circle")["input_ids"][1] == tokens.unk_token_id
