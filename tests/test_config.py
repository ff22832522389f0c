"""A config describes a model completely, refuses what contradicts itself, and survives JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny import tiny_config

from lightbagel_core.config import PUBLISHED, LightBagelConfig
from lightbagel_core.files.formats import read_config


def test_config_round_trips_through_json():
    config = read_config(PUBLISHED)
    assert LightBagelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_it_is_json_through_and_through():
    """Tuples become lists there, and tuples again here."""
    config = tiny_config()
    again = LightBagelConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.fusion == config.fusion
    assert again.to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("depth", "layers"),
    [
        (0.0, [0, 1, 2, 3, 3, 3]),  # und layer i after block i, the last one for the blocks that are more
        (0.5, [2, 3, 3, 3, 3, 3]),
        (1.0, [3, 3, 3, 3, 3, 3]),
    ],
)
def test_which_und_layer_a_fusion_layer_reads(depth, layers):
    fusion = replace(tiny_config().fusion, layers=6, und_layers=4, depth=depth)
    assert [fusion.und_layer(i) for i in range(6)] == layers


@pytest.mark.parametrize(
    ("change", "message"),
    [({"mrope_section": (4, 6, 5)}, "must sum to half of head_dim 32"), ({"depth": 1.5}, "lies outside 0..1")],
)
def test_a_fusion_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(tiny_config().fusion, **change)


@pytest.mark.parametrize(
    ("field", "key", "value", "message"),
    [
        ("generation", "num_layers", 5, "fusion layers, and DiT blocks less one are 3 and 4"),
        ("generation", "attention_head_dim", 16, "fusion gen_dim, and DiT width are 64 and 32"),
        ("generation", "text_dim", 25, "fusion context_dim, and DiT text_dim are 24 and 25"),
        ("generation", "in_channels", 16, "DiT channels, and VAE latent channels are 16 and 48"),
        ("vae", "scale_factor_spatial", 8, "vae_image stride, and pixels a DiT token covers are 32 and 16"),
    ],
)
def test_models_that_do_not_fit_each_other_are_refused_with_both_numbers(field, key, value, message):
    config = tiny_config()
    with pytest.raises(ValueError, match=message):
        replace(config, **{field: {**getattr(config, field), key: value}})


def test_unknown_and_missing_fields_and_newer_formats_are_refused():
    data = tiny_config().to_dict()
    for changed in ({**data, "colour": "red"}, {k: v for k, v in data.items() if k != "vae"}, {"fusion": None}):
        with pytest.raises(ValueError, match=r"config\.json is not a LightBagel config"):
            LightBagelConfig.from_dict(changed)
    with pytest.raises(ValueError, match="has format 2, this version reads up to 1"):
        LightBagelConfig.from_dict({**data, "format_version": 2})


def test_what_a_config_may_lack_and_may_say_of_guidance():
    config = tiny_config()
    data = config.to_dict()
    for name in ("guidance_interval", "renorm"):
        del data["defaults"][name]
    assert LightBagelConfig.from_dict(data) == LightBagelConfig.from_dict(config.to_dict())
    own = replace(config, defaults=replace(config.defaults, guidance_interval=(0.7, 1.0), renorm="text_channel"))
    again = LightBagelConfig.from_dict(json.loads(json.dumps(own.to_dict()))).defaults
    assert (again.guidance_interval, again.renorm) == ((0.7, 1.0), "text_channel")
