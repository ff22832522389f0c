"""Stage 2: the nano's VAE, a small AutoencoderKLWan of the Wan2.2 type, trained to be sharp and hard to disturb."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, patchify, unpatchify
from torch import Tensor

from ...config import Preview
from ...model.vae import encode, use_single_frames
from ...pipeline import LightBagel
from ...world.scenes import SIZE, pick, random_scene, render
from ..loop import Recipe, Training

CONFIG = {
    "base_dim": 16,
    "decoder_base_dim": 16,
    "z_dim": 48,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "scale_factor_temporal": 4,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
RECIPE = Recipe(steps=5000, lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-3)
CROP = 48


def pictures(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.stack([render(random_scene(rng)) for _ in range(count)])


def to_pixels(pictures: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def crops(rng: np.random.Generator, count: int) -> np.ndarray:
    """Crops of 48 pixels, most of them around a shape: on whole pictures plain background drowns the shapes."""
    out: list[np.ndarray] = []
    while len(out) < count:
        scene = random_scene(rng)
        picture = render(scene)
        if scene.things and rng.random() < 0.85:
            small = [t for t in scene.things if t.size == "small"]  # the hardest to keep sharp
            x, y = pick(rng, small or scene.things).centre
            x0, y0 = x - CROP // 2 + int(rng.integers(-12, 13)), y - CROP // 2 + int(rng.integers(-12, 13))
        else:
            x0, y0 = (int(v) for v in rng.integers(0, SIZE - CROP + 1, 2))
        x0, y0 = (min(max(v, 0), SIZE - CROP) for v in (x0, y0))
        out.append(picture[y0 : y0 + CROP, x0 : x0 + CROP])
    return np.stack(out)


def edge_weight(pixels: Tensor) -> Tensor:
    """1 on plain areas, up to 9 within two pixels of an edge; [B, 1, H, W]."""
    range_ = F.max_pool2d(pixels, 5, 1, 2) + F.max_pool2d(-pixels, 5, 1, 2)
    return 1 + 8 * range_.amax(1, keepdim=True).clamp(max=1)


def loss(
    vae: AutoencoderKLWan, rng: np.random.Generator, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    whole = rng.random() < 0.1
    pixels = to_pixels(pictures(rng, 6) if whole else crops(rng, 40)).to(vae.device)
    mu = vae.quant_conv(vae.encoder(patchify(pixels[:, :, None], 2)))[:, :48].float()
    # Noise on the latents, measured in each channel's own std: what the DiT draws is never exact, and a decoder that
    # has only seen exact latents turns a small error into a wrong shape.
    std = mu.detach().std((0, 2, 3, 4), keepdim=True)
    sigma = 0.4 * torch.rand((len(mu), 1, 1, 1, 1), generator=generator, device=mu.device)
    z = mu + sigma * std * torch.randn(mu.shape, generator=generator, device=mu.device)
    out = unpatchify(vae.decoder(vae.post_quant_conv(z), first_chunk=True), 2)[:, :, 0].float()
    error = (out - pixels).abs()
    value = (error * edge_weight(pixels)).mean() + 1e-5 * mu.square().mean()
    return value, {"l1": round(error.mean().item(), 5), "std": round(std.mean().item(), 3)}


@torch.no_grad()
def set_statistics(vae: AutoencoderKLWan, seed: int, count: int = 512) -> None:
    """Measures the latents' mean and std per channel and writes them into the VAE's config, as Wan's own does."""
    rng = np.random.default_rng([seed, 99])
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
    pixels = to_pixels(pictures(np.random.default_rng([seed, 98]), count))
    latents = encode(vae, pixels.to(vae.device)).cpu().movedim(1, -1).flatten(0, 2)
    colours = F.avg_pool2d(pixels, vae.config.scale_factor_spatial)
    weight = 1 + 5 * (colours - pixels[:, :, :1, :1]).abs().amax(1).flatten()[:, None]  # a corner is background
    colours = colours.movedim(1, -1).flatten(0, 2)
    known = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    ridge = (noise**2 * weight.sum() * torch.eye(latents.shape[1] + 1)).index_fill(0, torch.tensor(latents.shape[1]), 0)
    *factors, bias = torch.linalg.solve(known.T @ (weight * known) + ridge, known.T @ (weight * colours)).tolist()
    return Preview(factors, bias)


def train(
    out: Path, seed: int, accelerator: Accelerator, recipe: Recipe, start: LightBagel | None = None
) -> tuple[AutoencoderKLWan, Training]:
    torch.manual_seed(seed)
    config = CONFIG if start is None else start.config.vae
    vae = use_single_frames(AutoencoderKLWan(**config)).to(accelerator.device)
    if start is not None:
        vae.load_state_dict(start.vae.state_dict())
    training = Training("vae", vae, recipe, out, accelerator)
    training.run(lambda rng, generator: loss(vae, rng, generator), seed)
    training.use_ema()
    vae.eval().requires_grad_(False)
    if training.step > 0:
        set_statistics(vae, seed)
    return vae, training
