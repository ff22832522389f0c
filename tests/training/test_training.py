"""The trainer: resumes to the same weights, and one command leads from nothing to a checkpoint that opens."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import velocity
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training import nano
from lightbagel_core.training.loop import Recipe, Training, learning_rate
from lightbagel_core.training.nano import dit_recipe as dit
from lightbagel_core.training.nano import vae_recipe as vae
from lightbagel_core.training.nano import vlm_recipe as vlm
from lightbagel_core.training.nano.world import Scene, Thing


def toy(out, steps: int, until: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision="bf16")  # as nano.main makes it: accelerate allows one kind a process
    model = nn.Linear(4, 2).to(accelerator.device)
    training = Training("toy", model, Recipe(steps, 1e-2, warmup=2, autocast=False), out, accelerator)

    def loss(rng: np.random.Generator, generator: torch.Generator):
        x = torch.randn(8, 4, generator=generator, device=generator.device) + float(rng.random())
        return (model(x) - x[:, :2]).square().mean(), {}

    training.run(loss, seed=3, until=until)
    training.use_ema()
    return model


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    unbroken = toy(tmp_path / "a", 30)
    toy(tmp_path / "b", 30, until=11)
    resumed = toy(tmp_path / "b", 30)
    assert torch.equal(unbroken.weight, resumed.weight)


def test_learning_rate_warms_up_and_ends_low():
    recipe = Recipe(steps=1000, lr=1.0, warmup=100, final_lr=0.02)
    assert learning_rate(recipe, 0) == pytest.approx(0.01, rel=0.01)
    assert learning_rate(recipe, 500) == pytest.approx(0.51, rel=0.01)
    assert learning_rate(recipe, 1000) == pytest.approx(0.02)


def test_segments_are_dropped_independently_at_the_stated_rates():
    rng = np.random.default_rng(0)
    kept = [dit.keep(rng, edit=True) for _ in range(20000)]
    clean, vit = (np.array([k[i] for k in kept]) for i in (0, 1))
    text = np.array([k[2] == "full" for k in kept])
    for column, rate in ((clean, dit.DROP_CLEAN), (vit, dit.DROP_VIT), (text, dit.DROP_TEXT)):
        assert 1 - column.mean() == pytest.approx(rate, abs=0.01)
    assert np.mean([k[2] == "empty" for k in kept]) == pytest.approx(dit.DROP_TEXT / 2, abs=0.01)
    assert (~clean & ~vit & ~text).mean() == pytest.approx(dit.DROP_CLEAN * dit.DROP_VIT * dit.DROP_TEXT, abs=0.002)
    assert not any(k[0] or k[1] for k in (dit.keep(rng, edit=False) for _ in range(50)))


def test_a_chunk_is_reproduced_by_seed_and_number(monkeypatch):
    for name, value in (("CHUNK", 24), ("DROP_TEXT", 0.6), ("DROP_CLEAN", 0.4), ("DROP_VIT", 0.4)):
        monkeypatch.setattr(dit, name, value)
    torch.manual_seed(0)
    und = vlm.build().eval()
    autoencoder = vae.use_single_frames(vae.AutoencoderKLWan(**vae.CONFIG)).eval()
    samples = dit.make_chunk(und, autoencoder, seed=1, number=0)
    again = dit.make_chunk(und, autoencoder, seed=1, number=0)
    assert all(
        torch.equal(a.states, b.states) and torch.equal(a.target, b.target) for a, b in zip(samples, again, strict=True)
    )
    assert 0 < sum(s.edit for s in samples) < 24
    for sample in samples:
        assert sample.states.shape == (und.depth, int(sample.layout.und.sum()), 256)


def test_the_loss_is_that_of_the_velocity_and_reaches_all_trained_parts(monkeypatch):
    monkeypatch.setattr(dit, "CHUNK", 12)
    torch.manual_seed(0)
    und = vlm.build().eval().requires_grad_(False)
    autoencoder = vae.use_single_frames(vae.AutoencoderKLWan(**vae.CONFIG)).eval().requires_grad_(False)
    samples = dit.make_chunk(und, autoencoder, seed=1, number=0)
    gen, fusion = dit.build(und)
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(dit, "velocity", lambda gen, fusion, x, t, *_: asked.append((x, t)) or torch.zeros_like(x))
        value, _ = dit.loss(gen, fusion, samples, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    x = torch.stack([s.target for s in samples])
    noise = torch.randn(x.shape, generator=generator)
    even = torch.randn(12, generator=generator).sigmoid()
    t = 4 * even / (1 + 3 * even)
    torch.testing.assert_close(asked[0][1], t)
    torch.testing.assert_close(asked[0][0], (1 - t)[:, None, None, None] * x + t[:, None, None, None] * noise)
    assert value.item() == pytest.approx((noise - x).square().mean().item(), rel=1e-5)
    for layer in fusion.layers:
        nn.init.normal_(layer.gen_out.weight, std=0.1)
    dit.loss(gen, fusion, samples, torch.Generator().manual_seed(5))[0].backward()
    untouched = {n for n, p in [*gen.named_parameters(), *fusion.named_parameters()] if p.grad is None}
    assert untouched == set()
    assert fusion.context.grad.abs().sum() > 0
    assert all(p.grad is None for p in [*und.parameters(), *autoencoder.parameters()])


def test_a_sample_is_heard_alone_as_in_a_batch(monkeypatch):
    """Among them some without words, without pictures, without anything."""
    for name, value in (("CHUNK", 24), ("DROP_TEXT", 0.6), ("DROP_CLEAN", 0.4), ("DROP_VIT", 0.4)):
        monkeypatch.setattr(dit, name, value)
    torch.manual_seed(0)
    und = vlm.build().eval().requires_grad_(False)
    autoencoder = vae.use_single_frames(vae.AutoencoderKLWan(**vae.CONFIG)).eval().requires_grad_(False)
    samples = dit.make_chunk(und, autoencoder, seed=1, number=0)
    assert sum(int(s.layout.segment[-1]) == 0 for s in samples) > 1
    gen, fusion = dit.build(und)
    gen.requires_grad_(False)
    fusion.requires_grad_(False)
    for layer in fusion.layers:
        nn.init.normal_(layer.gen_out.weight, std=0.3)
    contexts = []
    monkeypatch.setattr(dit, "velocity", lambda g, f, x, t, context, _: contexts.append(context) or x)
    generator = torch.Generator().manual_seed(5)
    for part in (samples, *([s] for s in samples)):
        dit.loss(gen, fusion, part, generator)
    x, t = torch.randn(24, 48, 8, 8, generator=generator), torch.rand(24, generator=generator)
    together = velocity(gen, fusion, x, t, contexts[0], SDPA)
    alone = [velocity(gen, fusion, x[i : i + 1], t[i : i + 1], contexts[i + 1], SDPA) for i in range(24)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_one_command_from_nothing_to_a_checkpoint(tmp_path, monkeypatch):
    for name, value in (("CHUNK", 8), ("CHUNKS", 1), ("BATCH", 6)):
        monkeypatch.setattr(dit, name, value)
    options = ["--no-compile", "--vlm-steps", "1", "--vae-steps", "1", "--dit-steps", "1"]
    monkeypatch.setattr(sys, "argv", ["nano", "--out", str(tmp_path), *options])
    nano.main()
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
    nano.main()
    again = LightBagel.from_pretrained(tmp_path / "b" / "nano", "cpu")
    for each in (model, again):
        each.need("understanding", "generation", "fusion", "vae")
    assert again.config.vae == model.config.vae
    for part in ("und", "gen", "fusion", "vae"):
        old, new = (getattr(m, part).state_dict() for m in (model, again))
        assert all(torch.equal(old[key], new[key]) for key in old)


def test_what_an_instruction_means_and_what_a_token_shows():
    """The VLM's throw-away heads learn from these: place, shape, colour, size; places are left, right, top, …"""
    red, blue = Thing("circle", "red", "large", "left"), Thing("square", "blue", "small", "right")
    scene, empty = Scene("white", (red, blue)), [vlm.IGNORE] * 3
    assert vlm.meant(scene, Scene("white", (replace(red, colour="blue"), blue))) == [0, 1, 2, 1]
    assert vlm.meant(scene, Scene("white", (red, replace(blue, shape="star")))) == [1, 3, 2, 0]
    assert vlm.meant(scene, Scene("white", (red,))) == [1, 0, *empty[:2]]
    assert vlm.meant(Scene("white", (red,)), scene) == [1, 2, 2, 0]
    assert vlm.meant(scene, Scene("grey", (red, blue))) == [5, *empty]
    assert vlm.meant(None, scene) == [vlm.IGNORE] * 4
    cells = vlm.cell_codes(scene)
    circle, square, nothing = [1, 0, 1, 0], [2, 2, 0, 1], [0, *empty]
    row = [nothing] * 4
    assert [cells[i] for i in (4, 8, 7, 11)] == [circle, circle, square, square]
    assert cells[:4] == row == cells[12:]
    assert vlm.cell_codes(Scene("grey")) == row * 4
