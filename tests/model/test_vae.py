"""The single-frame VAE against the stock one."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from tiny import tiny_config

from lightbagel_core.model import vae


@pytest.fixture
def pair() -> tuple[AutoencoderKLWan, AutoencoderKLWan]:
    stock = AutoencoderKLWan(**tiny_config().vae).eval().requires_grad_(False)
    ours = AutoencoderKLWan(**tiny_config().vae).eval().requires_grad_(False)
    ours.load_state_dict(stock.state_dict())
    return stock, vae.use_single_frames(ours)


def test_encoding_is_the_stock_mean_normalised(pair):
    stock, ours = pair
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mu = stock.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (stock.config.latents_mean, stock.config.latents_std))
    torch.testing.assert_close(vae.encode(ours, pixels), (mu - mean) / std, rtol=1e-4, atol=1e-5)


def test_a_cpu_encodes_with_channels_side_by_side(pair):
    """Which the norms over them need: otherwise they take a third of the time."""
    seen = []
    pair[1].encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    vae.encode(pair[1], torch.zeros(2, 3, 64, 96))
    assert seen[0].is_contiguous(memory_format=torch.channels_last_3d)


def test_decoding_undoes_the_normalisation(pair):
    stock, ours = pair
    latents = torch.randn(2, 48, 4, 6, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (stock.config.latents_mean, stock.config.latents_std))
    expected = stock.decode((latents * std + mean)[:, :, None]).sample[:, :, 0]
    assert expected.std() > 0.01
    torch.testing.assert_close(vae.decode(ours, latents), expected, rtol=1e-4, atol=1e-5)


def test_more_than_one_frame_is_refused(pair):
    with pytest.raises(ValueError, match="single frames"):
        pair[1].encode(torch.zeros(1, 3, 5, 64, 64))
