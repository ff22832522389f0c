"""The bare modules a config describes: their sizes, and parameters that need no memory."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_config
from torch import nn

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.components import COMPONENTS, blaming, build_components, empty_components, parameters_on_meta
from lightbagel_core.files.formats import read_config


def test_the_real_model_has_its_published_size():
    """The table of docs/model.md, section 1."""
    config = read_config(PUBLISHED)
    with torch.device("meta"):
        parts = build_components(config)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert count["understanding"] == 8_292_166_656  # Qwen2.5-VL-7B-Instruct
    assert count["generation"] == pytest.approx(5.0e9, rel=0.01)
    assert count["vae"] == pytest.approx(0.7e9, rel=0.02)
    context = parts["fusion"].context.numel()
    assert context == 512 * 4096
    used = count["fusion"] - context
    inner = config.fusion.heads * config.fusion.head_dim
    dead = (
        config.fusion.layers * 2 * (config.fusion.und_dim * inner) + config.fusion.layers * inner
    )  # und q and und out
    assert used == pytest.approx(1.73e9, rel=0.005)
    assert used + dead == pytest.approx(2.37e9, rel=0.005)
    assert len(parts["fusion"].layers) == 29
    assert [config.fusion.und_layer(i) for i in (0, 26, 27, 28)] == [0, 26, 27, 27]


def test_empty_modules_have_no_weights_but_real_buffers():
    modules = empty_components(tiny_config(), Path("config.json"))
    assert tuple(modules) == COMPONENTS
    for name, module in modules.items():
        assert all(parameter.is_meta for parameter in module.parameters()), name
        assert not any(buffer.is_meta for buffer in module.buffers()), name
    built = build_components(tiny_config())
    buffers, expected = dict(modules["generation"].named_buffers()), dict(built["generation"].named_buffers())
    assert buffers.keys() == expected.keys() != set()
    for name, buffer in buffers.items():
        assert torch.equal(buffer, expected[name])


def test_torch_is_left_as_it_was():
    stock = nn.Module.register_parameter
    with contextlib.suppress(RuntimeError), parameters_on_meta():
        assert nn.Linear(2, 2).weight.is_meta
        raise RuntimeError("an error inside")
    assert nn.Module.register_parameter is stock
    assert not nn.Linear(2, 2).weight.is_meta


def test_what_a_library_raises_is_said_of_the_file():
    with (
        pytest.raises(ValueError, match=r"^some\.json is strange: no such key$"),
        blaming(Path("some.json"), "is strange"),
    ):
        raise RuntimeError("no such key")
    config = replace(tiny_config(), processor={}, generation={**tiny_config().generation, "patch_size": [1, "x", 2]})
    with pytest.raises(ValueError, match=r"^some\.json describes no model that can be built: "):
        empty_components(config, Path("some.json"))
