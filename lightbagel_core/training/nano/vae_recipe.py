"""The nano's VAE, a small AutoencoderKLWan of the Wan2.2 type, is trained to be sharp and hard to disturb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, patchify, unpatchify
from torch import Tensor, nn

from ...config import LightBagelConfig
from ...model.vae import use_single_frames
from ...world.scenes import Scene
from ...world.sentences import caption
from ..stages import DECODER, Stage
from . import latent_figures
from .shape import picture
from .single_process import SingleProcess, once
from .vae_pictures import crop, hard_scene, to_pixels

WHOLE, FEWER = 0.1, 0.15  # share of steps on whole pictures, and how many of them there are to a crop
WHOLE_DECODER = 0.5  # of the decoder's: its middle sees all of a picture at once, of a crop nine places
NOISE = 0.3  # the most, in std of a channel

Losses = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a step learns from.

    pixels: float32 [B, 3, H, W] in [-1, 1], of crops or of whole pictures of these scenes.
    sigma: float32 [B, 1, 1, 1], how much noise each gets; noise: float32, like the latents [B, C, h, w].
    """

    scenes: Sequence[Scene]
    pixels: Tensor
    sigma: Tensor
    noise: Tensor


def edge_weight(pixels: Tensor) -> Tensor:
    """1 on plain areas, up to 9 within two pixels of an edge; [B, 1, H, W]."""
    range_ = F.max_pool2d(pixels, 5, 1, 2) + F.max_pool2d(-pixels, 5, 1, 2)
    return 1 + 8 * range_.amax(1, keepdim=True).clamp(max=1)


class Disturbed(nn.Module):
    """The VAE as the module that gives the loss of a step.

    Noise is laid on the latents, measured in each channel's own std: what the DiT draws is never exact, and a decoder
    that has only seen exact latents turns a small error into a wrong shape.
    """

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, batch: Pictures) -> Losses:
        """(What is minimised; the mean error of a pixel "l1", the mean std of a channel "std")."""
        vae, device = self.vae, self.vae.device
        pixels, sigma, noise = (x.to(device) for x in (batch.pixels, batch.sigma, batch.noise))
        frames = patchify(pixels[:, :, None], vae.config.patch_size)
        mu = vae.quant_conv(vae.encoder(frames)).chunk(2, dim=1)[0][:, :, 0].float()
        std = mu.detach().std((0, 2, 3), keepdim=True)
        z = (mu + sigma * std * noise)[:, :, None]
        out = unpatchify(vae.decoder(vae.post_quant_conv(z), first_chunk=True), vae.config.patch_size)[:, :, 0].float()
        error = (out - pixels).abs()
        value = (error * edge_weight(pixels)).mean() + 1e-5 * mu.square().mean()
        return value, {"l1": error.mean().detach(), "std": std.mean()}


class VaeRecipe(SingleProcess):
    """The recipe (see training/trainer.py) of the nano's VAE.

    A step learns from `batch.samples` crops, about every tenth from fewer whole pictures of about as many pixels. The
    recipe "nano-vae-decoder" leaves the encoder as it is, and so the latents that a DiT was taught.

    Args:
        vae: on the device where it is trained; only single frames may pass from then on.

    Raises:
        ValueError: there are several processes, or the stage's batch is told in tokens.
    """

    def __init__(self, stage: Stage, config: LightBagelConfig, vae: AutoencoderKLWan) -> None:
        super().__init__(stage)
        self.vae = use_single_frames(vae).train().requires_grad_(True)
        self.whole = WHOLE_DECODER if stage.recipe == DECODER else WHOLE
        still = ("encoder.", "quant_conv.") if stage.recipe == DECODER else ()
        for name, parameter in vae.named_parameters():
            if "time_conv" in name or name.startswith(still):  # only films pass through the first
                parameter.requires_grad_(False)
        self.channels, self.stride = config.vae["z_dim"], config.vae["scale_factor_spatial"]
        self.module = Disturbed(vae)
        self.units: Sequence[nn.Module] = ()

    def trained(self) -> Mapping[str, nn.Parameter]:
        """The weights that single frames pass through, as "vae.…"."""
        return {f"vae.{name}": p for name, p in self.vae.named_parameters() if p.requires_grad}

    def passes(self, step: int) -> list[Pictures]:
        """The one pass of a step."""
        rng, generator = self.draws(step)
        if rng.random() < self.whole:
            scenes = [hard_scene(rng) for _ in range(max(1, round(FEWER * self.samples)))]
            pixels = to_pixels(np.stack([np.asarray(picture(scene)) for scene in scenes]))
        else:
            cuts = [crop(rng) for _ in range(self.samples)]
            scenes, pixels = [scene for scene, _ in cuts], to_pixels(np.stack([cut for _, cut in cuts]))
        height, width = (side // self.stride for side in pixels.shape[-2:])
        sigma = NOISE * torch.rand((len(scenes), 1, 1, 1), generator=generator)
        noise = torch.randn((len(scenes), self.channels, height, width), generator=generator)
        return [Pictures(scenes, pixels, sigma, noise)]

    def loss(self, module: nn.Module, batch: Pictures) -> Losses:
        """(The loss of the step; the mean error of a pixel and the mean std of a channel of the latents)."""
        value, figures = module(batch)
        return value, once(figures)

    def named(self, step: int) -> list[str]:
        """What the pictures show."""
        return [caption(scene) for scene in self.passes(step)[0].scenes]

    def finish(self, config: LightBagelConfig) -> LightBagelConfig:
        """Freezes the trained VAE and returns the config with the statistics and the preview colours of its latents.

        After no step at all, or of the decoder alone, the statistics stay as they are: a DiT was taught by them.
        """
        self.vae.eval().requires_grad_(False)
        if self.stage.steps and self.stage.recipe != DECODER:
            latent_figures.set_statistics(self.vae, self.stage.seed)
        measured = {name: list(self.vae.config[name]) for name in ("latents_mean", "latents_std")}
        preview = latent_figures.preview(self.vae, self.stage.seed)
        return replace(config, vae=config.vae | measured, preview=preview)
