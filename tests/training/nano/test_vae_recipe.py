"""The recipe of the nano's VAE."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import tiny_config

from lightbagel_core.files.components import build_component
from lightbagel_core.model.vae import encode
from lightbagel_core.training.nano import latent_figures
from lightbagel_core.training.nano.shape import SIDE
from lightbagel_core.training.nano.vae_recipe import VaeRecipe, edge_weight
from lightbagel_core.training.stages import Batch, Stage

STAGE = Stage(name="vae", recipe="nano-vae", train=("vae",), batch=Batch(samples=6))


def recipe(stage: Stage = STAGE) -> VaeRecipe:
    torch.manual_seed(0)
    return VaeRecipe(stage, tiny_config(), build_component("vae", tiny_config()))


def test_edges_weigh_more_than_plain_areas():
    pixels = torch.full((1, 3, 1, 12), -1.0)
    pixels[..., 6:] = 1.0
    weight = edge_weight(pixels)
    assert weight.flatten().tolist() == [1, 1, 1, 1, 9, 9, 9, 9, 1, 1, 1, 1]  # two pixels to each side


def test_gradients_reach_all_that_is_trained():
    made = recipe()
    (batch,) = made.passes(0)
    value, figures = made.loss(made.module, batch)
    value.backward()
    trained = made.trained()
    assert {name for name, p in trained.items() if p.grad is None or not p.grad.any()} == set()
    left = {f"vae.{name}" for name, _ in made.vae.named_parameters()} - set(trained)
    assert left
    assert all("time_conv" in name for name in left)
    assert set(figures) == {"l1", "std"}


def test_a_decoder_is_trained_alone_and_the_latents_stay():
    made = recipe(replace(STAGE, recipe="nano-vae-decoder"))
    (batch,) = made.passes(0)
    before = encode(made.vae, batch.pixels)
    optimiser = torch.optim.AdamW(made.trained().values(), 5e-3)
    value, _ = made.loss(made.module, batch)
    value.backward()
    optimiser.step()
    assert torch.equal(encode(made.vae, batch.pixels), before)
    assert {name.split(".")[1] for name in made.trained()} == {"decoder", "post_quant_conv"}
    assert made.loss(made.module, batch)[0] != value
    statistics = dict(made.vae.config)
    assert made.finish(tiny_config()).vae["latents_mean"] == list(statistics["latents_mean"])
    assert torch.equal(encode(made.vae, batch.pixels), before)


def test_a_few_steps_make_the_loss_fall():
    made = recipe()
    optimiser = torch.optim.AdamW(made.trained().values(), 5e-3)
    (batch,) = made.passes(0)
    values = []
    for _ in range(12):
        value, _ = made.loss(made.module, batch)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.85 * values[0]


def test_a_steps_pictures_depend_on_seed_and_step_alone():
    one, again = recipe(), recipe()
    one.passes(3)
    for step in (7, 0):
        (a,), (b,) = one.passes(step), again.passes(step)
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.noise, b.noise)
        assert torch.equal(a.sigma, b.sigma)
    assert not torch.equal(one.passes(7)[0].pixels, recipe(replace(STAGE, seed=2)).passes(7)[0].pixels)


@pytest.mark.parametrize(("name", "least", "most"), [("nano-vae", 2, 12), ("nano-vae-decoder", 22, 38)])
def test_so_many_steps_see_whole_pictures(name, least, most):
    """About every tenth, and of the decoder's every second."""
    made = recipe(replace(STAGE, recipe=name, batch=Batch(samples=10)))
    seen = [made.passes(step)[0] for step in range(60)]
    whole = [batch for batch in seen if batch.pixels.shape[-1] == SIDE]
    assert least <= len(whole) <= most
    assert {len(batch.pixels) for batch in whole} == {2}
    assert {batch.noise.shape[-2:] for batch in whole} == {(6, 6)}
    crops = [batch for batch in seen if batch.pixels.shape[-1] == 48]
    assert {(len(batch.pixels), *batch.noise.shape) for batch in crops} == {(10, 10, 48, 3, 3)}
    assert len(crops) + len(whole) == 60
    step = seen.index(crops[0])
    assert len(made.named(step)) == 10


@pytest.mark.parametrize("steps", [0, 5])
def test_statistics_are_measured_after_training_alone(monkeypatch, steps):
    made = recipe(replace(STAGE, steps=steps))
    asked = []
    monkeypatch.setattr(latent_figures, "set_statistics", lambda vae, seed: asked.append(seed))
    preview = latent_figures.preview
    monkeypatch.setattr(latent_figures, "preview", lambda vae, seed: preview(vae, seed, count=32))
    config = made.finish(tiny_config())
    assert asked == [1] * (steps > 0)
    assert len(config.preview.factors) == 48
    assert config.vae == tiny_config().vae
    assert not any(p.requires_grad for p in made.vae.parameters())


def test_the_config_has_the_measured_statistics(monkeypatch):
    made = recipe()
    monkeypatch.setattr(
        latent_figures, "set_statistics", lambda vae, seed: vae.register_to_config(latents_mean=[1.0] * 48)
    )
    preview = latent_figures.preview
    monkeypatch.setattr(latent_figures, "preview", lambda vae, seed: preview(vae, seed, count=32))
    config = made.finish(tiny_config())
    assert config.vae["latents_mean"] == [1.0] * 48
