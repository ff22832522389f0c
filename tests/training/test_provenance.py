"""Where a trained model comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightbagel_core.config import NANO, PUBLISHED
from lightbagel_core.files.formats import open_model
from lightbagel_core.training.provenance import asked, base, carried, name_of, origin, record
from lightbagel_core.training.stages import Cache, Data, DataSet, Edit, Merged, Model, Stage, Validation


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


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("nano", "nano"),
        ("/home/someone/wan2.2", "wan2.2"),
        ("C:\\Users\\someone\\wan.safetensors", "wan.safetensors"),
        ("/home/someone/runs/look/model", "look/model"),  # every run's folder is called so
        ("look/model/", "look/model"),
        ("../wan", "wan"),
    ],
)
def test_a_path_is_told_by_its_name(path, name):
    assert name_of(path) == name


def test_what_a_run_came_from_leaves_out_what_it_has_made_itself(tmp_path):
    model = Model("nano", fusion=str(tmp_path / "first" / "model"), vae="/x/vae", loras=(Merged("/x/look", 0.5),))
    assert origin(model) == "nano, fusion of first/model, vae of vae, look at strength 0.5"
    assert origin(model, tmp_path) == "nano, vae of vae, look at strength 0.5"
    assert origin(Model(config="nano")) is None


def test_a_stage_is_told_as_it_differs_from_the_defaults_and_without_a_persons_folders():
    home = "/home/someone"
    stage = Stage(
        steps=7,
        model=Model(f"{home}/base", loras=(Merged(f"{home}/look.safetensors"),)),
        data=Data((DataSet("folder", path=f"{home}/cats", source="https://a.b/cats", name="cats"),)),
        cache=Cache(folder=f"{home}/cache"),
        validation=Validation(edits=(Edit(f"{home}/cat.png", "a hat"), Edit("a red circle", "make it blue"))),
    )
    found = asked(stage)
    assert found == {
        "steps": 7,
        "model": {"model": "base", "loras": [{"file": "look.safetensors"}]},
        "data": {"sets": [{"kind": "folder", "path": "cats", "source": "https://a.b/cats", "name": "cats"}]},
        "cache": {"folder": "cache"},
        "validation": {
            "edits": [
                {"source": "cat.png", "instruction": "a hat"},
                {"source": "a red circle", "instruction": "make it blue"},
            ]
        },
    }
    assert json.loads(json.dumps(found)) == found
    assert asked(Stage()) == {}


def test_a_lora_says_which_component_it_was_trained_on():
    found = base(Model("nano"), open_model(NANO, need=["fusion"]), "fusion")
    assert (found["name"], found["started_from"]) == ("nano", "nano")
    assert found["files"] == {"fusion.safetensors": (NANO / "fusion.safetensors").stat().st_size}
    assert found["parameters"] == sum(p.numel() for p in load_file(NANO / "fusion.safetensors").values())
