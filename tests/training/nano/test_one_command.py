"""One command leads from nothing to a checkpoint that opens."""

from __future__ import annotations

import sys
from functools import partial

import torch

from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.nano import dit_recipe as dit
from lightbagel_core.training.nano import vae_recipe as vae
from lightbagel_core.training.nano.__main__ import main


def test_one_command_from_nothing_to_a_checkpoint(tmp_path, monkeypatch):
    for name, value in (("CHUNK", 8), ("CHUNKS", 1), ("BATCH", 6)):
        monkeypatch.setattr(dit, name, value)
    monkeypatch.setattr(vae, "set_statistics", partial(vae.set_statistics, count=64))
    monkeypatch.setattr(vae, "preview", partial(vae.preview, count=32))
    options = ["--no-compile", "--vlm-steps", "1", "--vae-steps", "1", "--dit-steps", "1"]
    monkeypatch.setattr(sys, "argv", ["nano", "--out", str(tmp_path), *options])
    main()
    model = LightBagel.from_pretrained(tmp_path / "nano", "cpu")
    assert model.config.metadata["stages"]["dit"]["steps"] == 1
    assert model.config.metadata["seed"] == 1
    assert model.generate("a red circle", steps=1, progress=False)[0].size == (128, 128)
    size = sum(f.stat().st_size for f in (tmp_path / "nano").iterdir())
    assert size < 32e6

    options = ["--no-compile", "--vlm-steps", "0", "--vae-steps", "0", "--dit-steps", "0"]
    monkeypatch.setattr(
        sys, "argv", ["nano", "--out", str(tmp_path / "b"), "--start", str(tmp_path / "nano"), *options]
    )
    main()
    again = LightBagel.from_pretrained(tmp_path / "b" / "nano", "cpu")
    for each in (model, again):
        each.need("understanding", "generation", "fusion", "vae")
    assert again.config.vae == model.config.vae
    for part in ("und", "gen", "fusion", "vae"):
        old, new = (getattr(m, part).state_dict() for m in (model, again))
        assert all(torch.equal(old[key], new[key]) for key in old)
