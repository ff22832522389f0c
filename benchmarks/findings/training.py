"""One run of an arm: what it begins with, and its training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lightbagel_core.config import NANO
from lightbagel_core.files.components import empty_components
from lightbagel_core.files.formats import read_config
from lightbagel_core.files.writing import write_whole
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training import journal
from lightbagel_core.training.beginnings import drawn
from lightbagel_core.training.running import MODEL, run

from .arms import Arm

TRAINING, START, SCRATCH = "training", "start", ".start"


def start(arm: Arm, seed: int, folder: Path) -> dict[str, Any]:
    """Writes what an arm's run begins with where that is not the nano's own; what the training's model section says of
    it.
    """
    if not (arm.fusion or arm.random_output):
        return {}
    config = read_config(NANO / "config.json")
    config = replace(config, fusion=replace(config.fusion, **arm.fusion))
    file = folder / START / "config.json"
    write_whole(file, json.dumps(config.to_dict()).encode(), folder / SCRATCH)
    said: dict[str, Any] = {"config": str(file)}
    if arm.random_output:
        fusion = empty_components(config, file, ["fusion"])["fusion"]
        tensors = dict(drawn(fusion, f"{seed}.fusion"))  # what the base of this seed begins with, but for its output
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name in [name for name in tensors if name.endswith("gen_out.weight")]:
                torch.nn.init.kaiming_uniform_(tensors[name], a=5**0.5)  # as torch begins a linear layer
        save_file(tensors, folder / START / "fusion.safetensors")
        said |= {"fusion": str(folder / START), "fresh": []}
    return said


def minutes(arm: Arm, folder: Path) -> float:
    """How long a run's training took, all sittings together."""
    stage = arm.trained_by(0, {})
    record = journal.read(folder / TRAINING / stage.name / journal.FILE)
    return max(float(line["seconds"]) for line in record.lines) / 60


def trained(arm: Arm, seed: int, folder: Path, steps: int | None = None) -> LightBagel:
    """The model of a run, trained now or before; a run that was stopped goes on."""
    stage = arm.trained_by(seed, start(arm, seed, folder), steps)
    training = folder / TRAINING
    if not run([stage], training, resume=(training / "run.json").is_file()):
        raise SystemExit(f"{arm.name}, seed {seed}, was stopped; the same command goes on")
    return LightBagel.from_pretrained(training / MODEL)
