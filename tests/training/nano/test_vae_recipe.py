"""The VAE's preview colours, and pixels as it takes them."""

from __future__ import annotations

import numpy as np
import torch

from lightbagel_core.training.nano import vae_recipe as vae


def test_its_preview_colours_are_what_the_trainer_fits(nano):
    fitted, shipped = vae.preview(nano.vae, nano.config.metadata["seed"]), nano.config.preview
    torch.testing.assert_close(torch.tensor(shipped.factors), torch.tensor(fitted.factors), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.tensor(shipped.bias), torch.tensor(fitted.bias), rtol=0, atol=1e-3)


def test_pixels_are_colours_from_minus_one_to_one():
    picture = np.array([[[0, 255, 51], [255, 0, 204]]], np.uint8)
    pixels = vae.to_pixels(picture[None])
    assert pixels.shape == (1, 3, 1, 2)
    torch.testing.assert_close(pixels[0, :, 0].T, torch.tensor([[-1.0, 1.0, -0.6], [1.0, -1.0, 0.6]]))


def test_edges_weigh_more_than_plain_areas():
    pixels = torch.full((1, 3, 1, 12), -1.0)
    pixels[..., 6:] = 1.0
    weight = vae.edge_weight(pixels)
    assert weight.flatten().tolist() == [1, 1, 1, 1, 9, 9, 9, 9, 1, 1, 1, 1]  # two pixels to each side


def test_crops_are_of_scenes_and_of_one_size():
    cut = vae.crops(np.random.default_rng(0), 40)
    assert cut.shape == (40, vae.CROP, vae.CROP, 3)
    assert cut.dtype == np.uint8
    plain = np.array([len(np.unique(crop.reshape(-1, 3), axis=0)) == 1 for crop in cut])
    assert plain.mean() < 0.25  # most are around a shape


def test_statistics_bring_latents_to_mean_nought_and_deviation_one():
    torch.manual_seed(0)
    model = vae.use_single_frames(vae.AutoencoderKLWan(**vae.CONFIG)).eval().requires_grad_(False)
    vae.set_statistics(model, seed=1, count=64)
    latents = vae.encode(model, vae.to_pixels(vae.pictures(np.random.default_rng([1, 99]), 64)))
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(48), rtol=0, atol=1e-3)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(48), rtol=1e-3, atol=0)
