"""The VAE as diffusers ships it, used on single frames: pictures in, normalised latents out, and back.

Wan2.2's VAE is causal in time. For one frame every causal convolution sees only zeros before it, so it equals a 2-D
convolution with the last time slice of its weight; `use_single_frames` runs it as one, which is several times faster on
a CPU and changes nothing but rounding. Encoder and decoder are called without the cache that films need: it would keep
a copy of every layer's input, which at 1024 x 1024 is more than twice the memory.
"""

from __future__ import annotations

import types
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d, patchify, unpatchify
from torch import Tensor


def _conv_last_frame(self: Any, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
    if cache_x is not None or x.shape[2] != 1:
        raise ValueError(f"this VAE was set up for single frames, it was given {x.shape[2]}")
    left, right, top, bottom, _, _ = self._padding
    frame = F.pad(x[:, :, 0], (left, right, top, bottom))
    return F.conv2d(frame, self.weight[:, :, -1], self.bias, self.stride[1:])[:, :, None]


def use_single_frames(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Runs the VAE's causal 3-D convolutions as 2-D ones; only single frames may pass from then on. Returns the VAE."""
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d):
            module.forward = types.MethodType(_conv_last_frame, module)
    return vae


def latent_statistics(vae: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    """Per-channel mean and std of the latents, each float32 [1, C, 1, 1]."""
    return (
        torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1),
        torch.tensor(vae.config.latents_std).view(1, -1, 1, 1),
    )


@torch.no_grad()
def encode(vae: AutoencoderKLWan, pixels: Tensor) -> Tensor:
    """Pixels [B, 3, H, W] in [-1, 1] to normalised latents `(mu - mean) / std`, float32 [B, C, H/16, W/16]."""
    mean, std = (s.to(pixels.device) for s in latent_statistics(vae))
    frames = patchify(pixels[:, :, None].to(vae.dtype), vae.config.patch_size)
    if frames.device.type == "cpu":  # a norm over channels takes a tenth of the time where these lie side by side
        frames = frames.contiguous(memory_format=torch.channels_last_3d)
    mu = vae.quant_conv(vae.encoder(frames)).chunk(2, dim=1)[0][:, :, 0]
    return (mu.float() - mean) / std


@torch.no_grad()
def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Normalised latents [B, C, h, w] to pixels in [-1, 1], float32 [B, 3, 16h, 16w]."""
    mean, std = (s.to(latents.device) for s in latent_statistics(vae))
    z = (latents.float() * std + mean)[:, :, None].to(vae.dtype)
    frames = vae.decoder(vae.post_quant_conv(z), first_chunk=True)
    return unpatchify(frames, vae.config.patch_size).clamp(-1, 1)[:, :, 0].float()
