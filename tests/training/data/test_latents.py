"""Latents that are kept are found again, by what they depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_tiny

from lightbagel_core.config import ImageRule
from lightbagel_core.training.data import encode
from lightbagel_core.training.data.encode import Encoder
from lightbagel_core.training.data.example import Example, Turn
from lightbagel_core.training.data.latents import KeptLatents
from lightbagel_core.training.data.samples import plan
from lightbagel_core.training.stages import Dropout

RULE = ImageRule(128, 64, 32)


def picture(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def test_latents_are_found_by_picture_rule_and_vae(tmp_path):
    kept = KeptLatents(tmp_path, "a", RULE)
    latents = torch.randn(48, 4, 4)
    assert kept.find(picture(1)) is None
    given = kept.keep(picture(1), latents)
    assert torch.equal(given, latents.bfloat16().float())
    assert torch.equal(KeptLatents(tmp_path, "a", RULE).find(picture(1)), given)
    assert given.dtype == torch.float32
    for other in (KeptLatents(tmp_path, "b", RULE), KeptLatents(tmp_path, "a", ImageRule(96, 64, 32))):
        assert other.find(picture(1)) is None
    same_bytes = Image.frombytes("RGB", (32, 128), picture(1).tobytes())
    assert kept.find(same_bytes) is None
    assert [file.suffix for file in tmp_path.rglob("*") if file.is_file()] == [".safetensors"]


def test_a_damaged_file_is_named(tmp_path):
    kept = KeptLatents(tmp_path, "a", RULE)
    kept.keep(picture(1), torch.zeros(48, 4, 4))
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=file.name):
        kept.find(picture(1))


def test_pictures_of_finite_sets_pass_the_vae_once(tmp_path, monkeypatch):
    model, calls, true = make_tiny(), [], encode.encode
    monkeypatch.setattr(encode, "encode", lambda vae, pixels: calls.append(len(pixels)) or true(vae, pixels))
    example = Example((picture(1),), (Turn("a star", picture(2)),))
    plans = plan(example, Dropout(0, 0, 0), np.random.default_rng(0))
    endless = plan(Example((), (Turn("a star", picture(3)),)), Dropout(0, 0, 0), np.random.default_rng(0))
    found = []
    for _ in range(2):  # as in two runs
        encoder = Encoder(model.und, model.vae, model.config, KeptLatents(tmp_path, "a", model.config.vae_image))
        (sample,), _ = encoder.live([plans, endless], [True, False])
        found.append((sample.contents[0].latents, sample.target))
    assert calls == [3, 1]
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
