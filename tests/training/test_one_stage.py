"""What a stage leaves: the averages, where there are any; the folder, the record and the metadata of what was done."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from runs import stages
from safetensors import safe_open
from safetensors.torch import load_file

from lightbagel_core.config import NANO
from lightbagel_core.files.formats import read_config
from lightbagel_core.training import one_stage
from lightbagel_core.training.checkpoints import Checkpoints
from lightbagel_core.training.export import ABOUT, LORA
from lightbagel_core.training.one_stage import run_stage
from lightbagel_core.training.parallel import start, stop


@pytest.mark.slow
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


F32 = "output_dtype=float32"
BOTH = ("lora.fusion.rank=2", "lora.fusion.alpha=3", "lora.generation.rank=1")
ADAPTERS = ("steps=1", "train=[]", "output=trained", *BOTH)


def trained(stage, out) -> None:
    world = start(stage)
    try:
        assert run_stage(stage, world, out / "train", out / "model", last=True)
    finally:
        stop()


def test_adapters_alone_come_out_as_a_file_that_says_what_they_are(tmp_path):
    pytest.importorskip("peft")
    (stage,) = stages(tmp_path, *ADAPTERS)
    trained(replace(stage, model=replace(stage.model, fresh=())), tmp_path)
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["config.json", LORA]
    assert read_config(tmp_path / "model" / "config.json").metadata["stages"]["train"]["steps"] == 1
    with safe_open(tmp_path / "model" / LORA, "pt") as file:
        said = json.loads(file.metadata()[ABOUT])
        names = list(file.keys())
    assert said["fusion"] == {"rank": 2, "alpha": 3.0, "targets": []}
    assert said["generation"] == {"rank": 1, "alpha": 1, "targets": []}
    assert {name.split(".")[0] for name in names} == {"fusion", "generation"}
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)


@pytest.mark.slow
def test_a_kill_before_all_is_written_leaves_nothing_that_looks_finished(tmp_path, monkeypatch):
    pytest.importorskip("peft")
    (stage,) = stages(tmp_path, *ADAPTERS)
    stage = replace(stage, model=replace(stage.model, fresh=()))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(one_stage, "write_adapters", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(stage, tmp_path)
    assert not (tmp_path / "model").exists()
    trained(stage, tmp_path)  # nothing is left to train
    assert (tmp_path / "model" / LORA).is_file()


@pytest.mark.slow
def test_a_trained_context_beside_adapters_keeps_the_layers_as_they_are_stored(tmp_path):
    pytest.importorskip("peft")
    (stage,) = stages(tmp_path, *ADAPTERS, 'train=["context"]', "base=float8", "precision=bfloat16-mixed", F32)
    trained(replace(stage, model=replace(stage.model, fresh=())), tmp_path)
    made, before = load_file(tmp_path / "model" / "fusion.safetensors"), load_file(NANO / "fusion.safetensors")
    assert made.keys() == before.keys()
    assert not torch.equal(made.pop("context"), before.pop("context").float())
    assert all(torch.equal(made[name], before[name]) for name in before)
