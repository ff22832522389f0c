"""IMAGE tensors to pictures and latents, and prompts with them to CONDITIONING."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ...lightbagel_core import images
from ...lightbagel_core.config import ImageRule, LightBagelConfig
from .clip import TextEncoder


def encoder_of(clip: Any) -> TextEncoder:
    """The encoder inside a CLIP.

    Raises:
        ValueError: it is not LightBagel's.
    """
    encoder = clip.cond_stage_model
    if not isinstance(encoder, TextEncoder):
        raise ValueError("the clip input needs the CLIP of Load LightBagel; another model's is connected")
    return encoder


def pictures(batches: Sequence[torch.Tensor]) -> list[Image.Image]:
    """RGB pictures of IMAGE tensors [B, H, W, C] in 0..1, one after the other; alpha on white.

    Raises:
        ValueError: values that are no numbers, or a picture too narrow to use.
    """
    found = []
    for batch in batches:
        if not bool(torch.isfinite(batch).all()):
            raise ValueError("an image holds values that are no numbers (NaN); the node that made it went wrong")
        for pixels in (batch.clamp(0, 1) * 255).round().byte().cpu().numpy():
            grey = pixels.shape[-1] == 1
            found.append(images.to_rgb(Image.fromarray(pixels[..., 0] if grey else pixels)))
    return found


def sized(picture: Image.Image, rule: ImageRule) -> torch.Tensor:
    """An IMAGE [1, H, W, 3] of a picture in the size the model draws it in."""
    return (images.to_pixels(images.resized(picture, rule)).movedim(0, -1)[None] + 1) / 2


def latents(vae: Any, found: Sequence[Image.Image], config: LightBagelConfig) -> list[torch.Tensor]:
    """Latents [1, C, 1, h, w] of pictures sized by the model's rule, as the VAE gives them.

    Raises:
        ValueError: the VAE is not of the kind the model draws with.
    """
    wanted, channels = config.vae["z_dim"], vae.latent_channels
    if channels != wanted:
        raise ValueError(
            f"the vae input needs a Wan2.2 VAE with {wanted} latent channels, such as Load LightBagel gives; the one "
            f"connected has {channels}"
        )
    return [vae.encode(sized(picture, config.vae_image)) for picture in found]


def encode(clip: Any, prompt: str, vae: Any = None, batches: Sequence[torch.Tensor] = ()) -> Any:
    """CONDITIONING of a prompt after its source images; without a VAE they stand there as ViT tokens only."""
    config, found = encoder_of(clip).config, pictures(batches)
    return condition(clip, prompt, found, latents(vae, found, config) if vae is not None else ())


def condition(clip: Any, prompt: str, found: Sequence[Image.Image] = (), sources: Sequence[torch.Tensor] = ()) -> Any:
    """CONDITIONING of a prompt after pictures whose latents, if they are to be used, are known."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt, pictures=found, latents=sources))
