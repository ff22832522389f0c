"""What a stage leaves: the averages, where there are any; the folder, the record and the metadata of what was done."""

from __future__ import annotations

import json

import torch
from runs import stages
from safetensors.torch import load_file

from lightbagel_core.config import NANO
from lightbagel_core.files.formats import read_config
from lightbagel_core.training.checkpoints import Checkpoints
from lightbagel_core.training.one_stage import run_stage
from lightbagel_core.training.parallel import start, stop


def test_the_averages_are_what_comes_out(tmp_path):
    (stage,) = stages(tmp_path, "steps=2", "output=trained", "output_dtype=float32")
    world = start(stage)
    try:
        assert run_stage(stage, world, tmp_path / "train", tmp_path / "model", last=True)
        made = load_file(tmp_path / "model" / "fusion.safetensors")
        checkpoints = Checkpoints(tmp_path / "train" / "checkpoints", 1)
        shard = next(checkpoints.path(2).glob("*.safetensors"))
    finally:
        stop()
    held = load_file(shard)
    assert not any(name.split(".")[1] in ("generation", "understanding", "vae") for name in held)
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, held[f"ema.fusion.{name}"], rtol=0, atol=1e-7)
    assert any(not torch.equal(held[f"ema.fusion.{n}"], held[f"weight.fusion.{n}"]) for n in made)
    metadata = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))["metadata"]
    assert metadata["started_from"] == "nano"
    assert metadata["torch"] == torch.__version__
    assert metadata["stages"]["train"]["steps"] == 2
    assert metadata["before"] == read_config(NANO / "config.json").metadata
