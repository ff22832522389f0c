"""What is measured of the nano's VAE once it is trained: its latents' statistics, and their colours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from ...config import Preview
from ...model.vae import encode
from ..seeds import Stream, generator
from .vae_pictures import pictures, to_pixels


@torch.no_grad()
def set_statistics(vae: AutoencoderKLWan, seed: int, count: int = 512) -> None:
    """Measures the latents' mean and std per channel and writes them into the VAE's config, as Wan's own does.

    The VAE's former statistics do not count.
    """
    channels = vae.config.z_dim
    vae.register_to_config(latents_mean=[0.0] * channels, latents_std=[1.0] * channels)
    rng = generator(seed, Stream.STATISTICS)
    latents = torch.cat([encode(vae, to_pixels(pictures(rng, 64)).to(vae.device)) for _ in range(count // 64)])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())


@torch.no_grad()
def preview(vae: AutoencoderKLWan, seed: int, count: int = 256, noise: float = 0.1) -> Preview:
    """The linear map from normalised latents to the mean colour of the pixels they stand for, by least squares.

    Fitted as if the latents had noise of this standard deviation: what the DiT draws is never exact, and channels that
    nearly repeat each other would get large factors of opposite sign. Tokens with something on them count for more
    than plain background, of which there is most.
    """
    pixels = to_pixels(pictures(generator(seed, Stream.PREVIEW), count))
    latents = encode(vae, pixels.to(vae.device)).cpu().movedim(1, -1).flatten(0, 2)
    colours = F.avg_pool2d(pixels, vae.config.scale_factor_spatial)
    weight = 1 + 5 * (colours - pixels[:, :, :1, :1]).abs().amax(1).flatten()[:, None]  # a corner is background
    colours = colours.movedim(1, -1).flatten(0, 2)
    known = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    ridge = (noise**2 * weight.sum() * torch.eye(latents.shape[1] + 1)).index_fill(0, torch.tensor(latents.shape[1]), 0)
    *factors, bias = torch.linalg.solve(known.T @ (weight * known) + ridge, known.T @ (weight * colours)).tolist()
    return Preview(factors, bias)
