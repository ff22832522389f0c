"""Checkpoint folders: what is saved opens again, what is damaged says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scenes import assert_alike
from tiny import make_tiny

from lightbagel_core.config import LightBagelConfig
from lightbagel_core.pipeline import LightBagel


def test_round_trip(folder):
    before, after = make_tiny(), LightBagel.from_pretrained(folder, "cpu")
    assert after.config == LightBagelConfig.from_dict(json.loads(json.dumps(before.config.to_dict())))
    a, b = (m.generate("a red circle", steps=2, progress=False, seed=3)[0] for m in (before, after))
    assert_alike(a, b)
    assert before.describe(a, max_new_tokens=5) == after.describe(a, max_new_tokens=5)
    assert [f.name for f in folder.parent.iterdir()] == ["tiny"]


def test_half_precision_keeps_what_the_model_asks_for_in_float32(folder):
    model = LightBagel.from_pretrained(folder, "cpu", torch.bfloat16)
    model.need("generation")
    block = model.gen.blocks[0]
    assert block.attn1.to_q.weight.dtype == block.ffn.net[0].proj.weight.dtype == torch.bfloat16
    embedder = model.gen.dit.condition_embedder
    for exact in (embedder.time_proj.weight, embedder.time_embedder.linear_1.weight, block.scale_shift_table):
        assert exact.dtype == torch.float32
    assert model.gen.dit.proj_out.weight.dtype == torch.float32
    x = torch.randn(1, 48, 4, 6, generator=torch.Generator().manual_seed(0))
    reference = LightBagel.from_pretrained(folder, "cpu")
    half, full = (m.velocity(x, 0.7, m.encode([[m.text("a red circle")]], 96, 64)) for m in (model, reference))
    assert half.dtype == torch.float32
    assert (half - full).norm() / full.norm() < 0.03


@pytest.mark.parametrize("part", ["understanding", "generation", "fusion", "vae"])
def test_a_missing_or_cut_part_is_named(folder, part):
    file = folder / f"{part}.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=rf"{part}\.safetensors is damaged"):
        LightBagel.from_pretrained(folder, "cpu")
    file.unlink()
    with pytest.raises(ValueError, match=rf"lacks the {part} component, {part}\.safetensors"):
        LightBagel.from_pretrained(folder, "cpu")


def test_missing_unexpected_and_misshapen_tensors_are_listed(folder):
    file = folder / "fusion.safetensors"
    tensors = load_file(file)
    tensors["layers.9.surprise"] = torch.zeros(1)
    tensors["layers.0.und_k.bias"] = torch.zeros(3)
    del tensors["context"]
    save_file(tensors, file)
    with pytest.raises(ValueError, match="does not fit") as caught:
        LightBagel.from_pretrained(folder, "cpu")
    for part in ("missing: context", "unexpected: layers.9.surprise", "layers.0.und_k.bias [3] instead of [64]"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no config.json"),
        ("{", "damaged"),
        ("[]", "not a LightBagel config"),
        ("{}", "not a LightBagel config"),
        ('{"format_version": 99}', "format 99"),
        ('{"format_version": "new"}', "invalid literal"),
    ],
)
def test_bad_configs(folder, text, message):
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message):
        LightBagel.from_pretrained(folder, "cpu")


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint folder"):
        LightBagel.from_pretrained(tmp_path / "nowhere", "cpu")


def test_saving_never_overwrites_other_files(tmp_path):
    (tmp_path / "letter.txt").write_text("dear", "utf-8")
    (tmp_path / "config.json").write_text("{}", "utf-8")
    for target in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(ValueError, match=r"not a LightBagel checkpoint \(letter.txt\)"):
            make_tiny().save_pretrained(target)
    assert (tmp_path / "letter.txt").read_text("utf-8") == "dear"


def test_a_failed_replacement_leaves_the_old_checkpoint(folder, monkeypatch):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    rename = Path.rename

    def fails(self, target):
        if self.name == ".tiny.writing":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises(ValueError, match="could not write"):
            make_tiny().save_pretrained(folder, torch.bfloat16)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [f.name for f in folder.parent.iterdir()] == ["tiny"]


def test_saving_over_a_checkpoint_replaces_it_whole(folder, monkeypatch):
    model = make_tiny()
    model.fusion.context.add_(1.0)
    with monkeypatch.context() as patch:
        patch.setattr(
            model.und.tokenizer, "save_pretrained", lambda _: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        with pytest.raises(ValueError, match=r"could not write .*No space left"):
            model.save_pretrained(folder)
    old = LightBagel.from_pretrained(folder, "cpu")
    old.need("fusion")
    model.save_pretrained(folder)
    new = LightBagel.from_pretrained(folder, "cpu")
    new.need("fusion")
    assert torch.allclose(new.fusion.context, old.fusion.context + 1)
    assert [f.name for f in folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fusion", {"layers": 7}, "fusion layers, and DiT blocks less one are 7 and 3"),
        ("fusion", {"und_layers": 3}, "are 3 and 2"),
        ("vae_image", {"stride": 16}, "are 16 and 32"),
        ("generation", {"num_layers": "four"}, "not a LightBagel config"),
        ("understanding", {"vision_config": {"depth": "two"}}, "describes no model"),
        ("processor", {"min_pixels": "few", "size": 3}, "describes no model"),
    ],
)
def test_configs_that_contradict_themselves(folder, key, value, message):
    data = json.loads((folder / "config.json").read_text("utf-8"))
    data[key] |= value
    (folder / "config.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(ValueError, match=message):
        LightBagel.from_pretrained(folder, "cpu")


def test_a_float8_model_is_not_saved_half(folder, tmp_path):
    model = LightBagel.from_pretrained(folder, "cpu", torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="cannot be saved; convert its files instead"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
