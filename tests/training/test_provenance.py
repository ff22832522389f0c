"""Where a trained model comes from."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lightbagel_core.config import NANO, PUBLISHED
from lightbagel_core.training.provenance import carried, record
from lightbagel_core.training.stages import Model


def test_the_metadata_says_what_was_done():
    found = record(1, None, torch.device("cpu"), {"vlm": (8600, 5720.0), "dit": (10, 3.0)})
    assert found["stages"] == {"vlm": {"steps": 8600, "minutes": 95.3}, "dit": {"steps": 10, "minutes": 0.1}}
    assert (found["seed"], found["started_from"], found["torch"]) == (1, "nothing", torch.__version__)
    assert "CPU threads" in found["hardware"]
    assert json.loads(json.dumps(found)) == found
    assert record(2, "nano", torch.device("cpu"), {})["started_from"] == "nano"


def test_metadata_goes_on_within_a_run_and_is_history_to_the_next(tmp_path):
    made, metadata = str(tmp_path / "vlm" / "model"), {"seed": 7}
    for file, model, expected in (
        (NANO / "config.json", Model(config="nano"), {}),  # its numbers alone
        (NANO / "config.json", Model(model="nano"), {"before": metadata}),
        (Path(made) / "config.json", Model(model=made), {"before": metadata}),
        (Path(made) / "config.json", Model(config="nano", understanding=made), metadata),
        (Path(made) / "config.json", Model(model="nano", understanding=made), metadata),
        (PUBLISHED, Model(understanding="qwen", generation="wan"), {}),
    ):
        assert carried(metadata, file, model) == expected


def test_it_has_what_the_metadata_of_the_nano_has(nano):
    assert set(record(1, None, torch.device("cpu"), {})) <= set(nano.config.metadata)
