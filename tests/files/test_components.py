"""The bare modules a config describes: their sizes, and parameters that need no memory."""

from __future__ import annotations

import pytest
import torch

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.components import build_components
from lightbagel_core.files.formats import read_config


def test_the_real_model_has_its_published_size():
    """Section 1's table: 8.3 B und, 5.0 B gen, 1.73 B fusion used of 2.37 B stored, 2.1 M context, 0.7 B VAE."""
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
