"""Where a trained model comes from."""

from __future__ import annotations

import json

import torch

from lightbagel_core.training.provenance import record


def test_the_metadata_says_what_was_done():
    found = record(1, None, torch.device("cpu"), {"vlm": (8600, 5720.0), "dit": (10, 3.0)})
    assert found["stages"] == {"vlm": {"steps": 8600, "minutes": 95.3}, "dit": {"steps": 10, "minutes": 0.1}}
    assert (found["seed"], found["started_from"], found["torch"]) == (1, "nothing", torch.__version__)
    assert "CPU threads" in found["hardware"]
    assert json.loads(json.dumps(found)) == found
    assert record(2, "nano", torch.device("cpu"), {})["started_from"] == "nano"


def test_it_has_what_the_metadata_of_the_nano_has(nano):
    assert set(record(1, None, torch.device("cpu"), {})) <= set(nano.config.metadata)
