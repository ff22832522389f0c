"""Pictures to latents, and prompts with them to CONDITIONING."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ...lightbagel_core.config import LightBagelConfig
from .clip import TextEncoder
from .history import earlier
from .images import pictures, sized
from .latents import as_pictures
from .tokens import Pictures, Source


def encoder_of(clip: Any) -> TextEncoder:
    """The encoder inside a CLIP.

    Raises:
        ValueError: it is not LightBagel's.
    """
    encoder = clip.cond_stage_model
    if not isinstance(encoder, TextEncoder):
        raise ValueError("the clip input needs the CLIP of Load LightBagel; another model's is connected")
    return encoder


def check_vae(vae: Any, config: LightBagelConfig) -> None:
    """Raises ValueError when a VAE is not of the kind the model draws with."""
    wanted, channels = config.vae["z_dim"], vae.latent_channels
    if channels != wanted:
        raise ValueError(
            f"the vae input needs a Wan2.2 VAE with {wanted} latent channels, such as Load LightBagel gives; the one "
            f"connected has {channels}"
        )


def latents(vae: Any, found: Sequence[Image.Image], config: LightBagelConfig) -> list[torch.Tensor]:
    """Latents [1, C, h, w] of pictures sized by the model's rule, as the VAE gives them.

    Raises:
        ValueError: the VAE is not of the kind the model draws with.
    """
    check_vae(vae, config)
    return [as_pictures(vae.encode(sized(picture, config.vae_image))) for picture in found]


def encode(clip: Any, prompt: str, vae: Any = None, batches: Sequence[torch.Tensor] = (), history: Any = None) -> Any:
    """CONDITIONING of a prompt after earlier turns, if any, and its source images; without a VAE these stand there as
    ViT tokens only.

    Args:
        history: the CONDITIONING of the turns before.

    Raises:
        ValueError: a history that cannot be gone on from, see `earlier`; a VAE of another kind; unknown words.
    """
    encoder = encoder_of(clip)
    before = [] if history is None else [earlier(history, encoder)]
    if vae is not None:
        check_vae(vae, encoder.config)
    sources = [source for batch in batches for source in sources_of(encoder, batch, vae)]
    with encoder.keeping():
        return clip.encode_from_tokens_scheduled(tokens(clip, prompt, "prompt", sources=[*before, *sources]))


def sources_of(encoder: TextEncoder, batch: torch.Tensor, vae: Any) -> list[Source]:
    """The source pictures of an IMAGE. All prompts after it have in common what ViT and VAE make of it."""
    found = encoder.images.get("seen", (batch,), lambda: Pictures(pictures([batch])))
    if vae is None:
        return [Source(found, i) for i in range(len(found))]
    weights = getattr(getattr(vae, "patcher", None), "patches_uuid", None)
    made = encoder.images.get(("latents", weights), (vae, batch), lambda: latents(vae, found, encoder.config))
    return [Source(found, i, each) for i, each in enumerate(made)]


def condition(
    clip: Any,
    prompt: str,
    found: Sequence[Image.Image] = (),
    sources: Sequence[torch.Tensor] = (),
    name: str = "prompt",
) -> Any:
    """CONDITIONING of a prompt after pictures, whose latents are known if they are to be used; `name`: see `tokens`."""
    return clip.encode_from_tokens_scheduled(tokens(clip, prompt, name, pictures=found, latents=sources))


def tokens(clip: Any, text: str, name: str, **beside: Any) -> Any:
    """What a CLIP makes of a text that came by an input of this name.

    Raises:
        ValueError: the text holds words that the model does not know; of a node's texts the message names this one.
    """
    try:
        return clip.tokenize(text, **beside)
    except ValueError as error:
        raise ValueError(f"the {name} input: {error}") from None
