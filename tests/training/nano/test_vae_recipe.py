"""The VAE's preview colours, and pixels as it takes them."""

from __future__ import annotations

import torch

from lightbagel_core.training.nano import vae_recipe as vae


def test_its_preview_colours_are_what_the_trainer_fits(nano):
    fitted, shipped = vae.preview(nano.vae, nano.config.metadata["seed"]), nano.config.preview
    torch.testing.assert_close(torch.tensor(shipped.factors), torch.tensor(fitted.factors), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.tensor(shipped.bias), torch.tensor(fitted.bias), rtol=0, atol=1e-3)
