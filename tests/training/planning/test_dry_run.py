"""The dry run of presets, as a person gets it."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

from lightbagel_core.config import NANO
from lightbagel_core.files.formats import open_model
from lightbagel_core.training.config_file import read
from lightbagel_core.training.planning.dry_run import dry_run
from lightbagel_core.training.stages import Adapters, Lora, Model, Stage


def test_the_nano_is_a_matter_of_megabytes():
    table = dry_run(read("nano"), rate=0.05)
    assert "not counted" in table
    assert "5.9 M, 177 tensors" in table
    with pytest.raises(ValueError, match=r"stage vlm needs 98\.3 MB"):
        dry_run(read("nano"), card=0.85e9)


def test_a_lora_that_is_gone_on_from_counts_by_its_file(tmp_path):
    name = "diffusion_model.blocks.0.self_attn.q"
    shape = open_model(NANO, need=["generation"]).components["generation"]["blocks.0.attn1.to_q.weight"].shape
    pair = {"lora_A.weight": torch.zeros(3, shape[1]), "lora_B.weight": torch.zeros(shape[0], 3)}
    save_file({f"{name}.{end}": half for end, half in pair.items()}, tmp_path / "look.safetensors")
    lora = Adapters(generation=Lora(file=str(tmp_path / "look.safetensors")))
    table = dry_run([Stage(train=(), lora=lora, model=Model("nano"))])
    assert re.search(r"LoRA on generation +0.0 M, 2 tensors", table)
    (tmp_path / "look.safetensors").unlink()
    with pytest.raises(ValueError, match=r"there is no file .*look.safetensors"):
        dry_run([Stage(train=(), lora=lora, model=Model("nano"))])
