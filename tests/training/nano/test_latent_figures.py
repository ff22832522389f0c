"""What is measured of a trained VAE."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightbagel_core.files.components import build_component
from lightbagel_core.model.vae import encode, use_single_frames
from lightbagel_core.training.nano import latent_figures
from lightbagel_core.training.nano.shape import nano_config
from lightbagel_core.training.nano.vae_pictures import pictures, to_pixels


@pytest.mark.slow
def test_its_preview_colours_are_what_is_fitted(nano):
    fitted, shipped = latent_figures.preview(nano.vae, nano.config.metadata["seed"]), nano.config.preview
    torch.testing.assert_close(torch.tensor(shipped.factors), torch.tensor(fitted.factors), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.tensor(shipped.bias), torch.tensor(fitted.bias), rtol=0, atol=1e-3)


def test_statistics_bring_latents_to_mean_nought_and_deviation_one():
    """Whatever they were before."""
    torch.manual_seed(0)
    model = use_single_frames(build_component("vae", nano_config()[0])).eval().requires_grad_(False)
    model.register_to_config(latents_mean=[3.0] * 48, latents_std=[7.0] * 48)
    latent_figures.set_statistics(model, seed=1, count=64)
    latents = encode(model, to_pixels(pictures(np.random.default_rng([1, 99]), 64)))
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(48), rtol=0, atol=1e-3)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(48), rtol=1e-3, atol=0)
