"""Latents that a store keeps are those that training looks for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from prepared_rows import stored, write_store

from lightbagel_core.__main__ import main
from lightbagel_core.training.data import encode
from lightbagel_core.training.data.samples import plan
from lightbagel_core.training.data.store import LATENTS, Store
from lightbagel_core.training.data.store_set import StoreSet
from lightbagel_core.training.encoders import encoders
from lightbagel_core.training.prepare.store_latents import keep_latents
from lightbagel_core.training.seeds import Stream, generator
from lightbagel_core.training.stages import Data, DataSet, Dropout, Model, Stage

NANO = Model(model="nano")


@pytest.fixture
def folder(tmp_path):
    write_store(tmp_path / "store", [replace(stored(n, sources=n % 2), texts=("a circle",)) for n in range(5)])
    return tmp_path / "store"


def test_training_finds_what_the_store_keeps(folder, tmp_path, monkeypatch):
    assert keep_latents(Store(folder), NANO, "cpu") == (7, 0)
    assert keep_latents(Store(folder), NANO, "cpu") == (0, 7)
    files = sorted((folder / LATENTS).rglob("*.safetensors"))
    assert len(files) == 7
    stage = Stage(model=NANO, data=Data((DataSet("store", path=str(folder)),)))
    calls, true = [], encode.encode
    monkeypatch.setattr(encode, "encode", lambda vae, pixels: calls.append(len(pixels)) or true(vae, pixels))
    examples = StoreSet(folder)
    plans = [plan(examples[n], Dropout(0, 0, 0), generator(1, Stream.DROPOUT, n)) for n in range(5)]
    with encoders(stage, torch.device("cpu"), tmp_path / "own") as encoder:
        found = encoder.live(plans, [True] * 5)
    assert calls == []
    with encoders(Stage(model=NANO), torch.device("cpu"), tmp_path / "own") as encoder:
        made = encoder.live(plans, [True] * 5)
    assert sum(calls) == 7
    for one, other in zip(found, made, strict=True):
        assert torch.allclose(one[0].target, other[0].target, atol=0.05)
    assert sorted((folder / LATENTS).rglob("*.safetensors")) == files


def test_the_command_keeps_them(tmp_path, capsys):
    (tmp_path / "cats").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "cats" / "a.png")
    (tmp_path / "cats" / "a.txt").write_text("a cat", "utf-8")
    words = ["prepare", str(tmp_path / "cats"), "--out", str(tmp_path / "store"), "--quiet", "--workers", "1"]
    assert main([*words, "--device", "cpu"]) == 2
    assert "--config and --device are for latents" in capsys.readouterr().err
    assert main([*words, "--latents", "nano", "--device", "cpu"]) == 0
    assert "latents of 1 pictures made" in capsys.readouterr().out
    assert main([*words, "--latents", "nano", "--device", "cpu"]) == 0
    assert "latents of 0 pictures made, of 1 there already" in capsys.readouterr().out
