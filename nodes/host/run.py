"""The one-box runs: conditions, a guided run, the decoded picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.utils
import latent_preview
import torch
from comfy.patcher_extension import WrappersMP

from ...lightbagel_core.config import SolverName
from ...lightbagel_core.sampling.guidance import Guidance
from .conditioning import KEY
from .encoding import check_vae, condition, encoder_of, latents
from .guider import Guider, sampler
from .images import pictures, sized
from .latents import one_frame
from .patched import shift_of
from .tokens import Pictures

Drawn = tuple[torch.Tensor, dict[str, torch.Tensor]]  # IMAGE [B, H, W, 3], LATENT


def generate(
    model: Any,
    clip: Any,
    vae: Any,
    prompt: str,
    size: tuple[int, int],
    batch: int,
    guidance: Guidance,
    *,
    negative_prompt: str,
    **settings: Any,
) -> Drawn:
    """Pictures of a prompt; size is (width, height) in pixels, the other settings are `draw`'s."""
    prompts = {"full": prompt, "negative": negative_prompt}
    inputs = {"full": "prompt", "negative": "negative_prompt"}
    asked = tuple((branch, prompts[branch]) for branch in guidance.branches)
    encoder = encoder_of(clip)
    check_vae(vae, encoder.config)

    def encoded() -> dict[str, Any]:
        return {branch: condition(clip, words, name=inputs[branch]) for branch, words in asked}

    conds = encoder.recent.get(asked, (clip,), encoded)
    ratio = vae.spacial_compression_encode()
    return draw(model, vae, conds, torch.zeros(batch, vae.latent_channels, size[1] // ratio, size[0] // ratio),
                None, guidance, **settings)  # fmt: skip


def edit(
    model: Any,
    clip: Any,
    vae: Any,
    batches: Sequence[torch.Tensor],
    instruction: str,
    mask: torch.Tensor | None,
    guidance: Guidance,
    *,
    negative_prompt: str,
    **settings: Any,
) -> Drawn:
    """A picture of the first IMAGE's size, made by an instruction; what a mask [B, H, W] or [H, W] leaves out stays."""
    encoder = encoder_of(clip)

    def encoded() -> tuple[Any, torch.Tensor, dict[str, Any]]:
        found = Pictures(pictures(batches))
        sources = latents(vae, found, encoder.config)
        asked: dict[str, tuple[Any, ...]] = {
            "full": (instruction, found, sources),
            "negative": (negative_prompt, found, sources),
            "no_image": (instruction,),
        }
        inputs = {"full": "instruction", "negative": "negative_prompt", "no_image": "instruction"}
        conds = {branch: condition(clip, *asked[branch], name=inputs[branch]) for branch in guidance.branches}
        return found[0], sources[0], conds

    words = (instruction, negative_prompt, guidance.branches)
    first, latent, conds = encoder.recent.get(words, (clip, vae, *batches), encoded)
    if mask is None:
        return draw(model, vae, conds, torch.zeros_like(latent), None, guidance, **settings)
    mask = mask.reshape(-1, *mask.shape[-2:])[:1]  # of a batch the first, as of the pictures
    image, drawn = draw(model, vae, conds, latent, mask, guidance, **settings)
    # The VAE blurs what it passes on: outside the mask the picture itself is put back.
    soft = comfy.utils.common_upscale(mask[:, None], image.shape[2], image.shape[1], "bilinear", "disabled")
    soft = soft[:, 0, :, :, None].to(image)
    return image * soft + sized(first, encoder.config.vae_image).to(image) * (1 - soft), drawn


def draw(
    model: Any,
    vae: Any,
    conds: dict[str, Any],
    latent: torch.Tensor,
    mask: torch.Tensor | None,
    guidance: Guidance,
    *,
    seed: int,
    steps: int,
    solver: SolverName,
    shift: float,
) -> Drawn:
    """One guided run.

    Args:
        conds: CONDITIONING for each of the guidance's branches.
        latent: [B, C, h, w], zeros where nothing is to be kept.
        mask: [1, H, W]; where it is 0 the latent stays.

    Raises:
        ValueError: the MODEL has no fusion stack.
    """
    if not model.get_wrappers(WrappersMP.DIFFUSION_MODEL, KEY):
        raise ValueError(
            "the model input needs a MODEL with LightBagel's fusion stack: Load LightBagel, or Apply LightBagel Fusion "
            "behind another loader"
        )
    run, sigmas = sampler(solver, steps, shift_of(model, shift))
    latent = latent.to(comfy.model_management.intermediate_device())
    samples = (
        Guider(model, guidance, conds)
        .sample(
            comfy.sample.prepare_noise(latent, seed),
            latent,
            run,
            sigmas,
            denoise_mask=None if mask is None else mask[:, None],
            callback=latent_preview.prepare_callback(model, steps),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
        .to(latent.device)
    )
    if not bool(torch.isfinite(samples).all()):
        raise ValueError(
            "the latents hold values that are no numbers: half precision was too narrow, or a LoRA or another patch on "
            "the MODEL went wrong. Try weight_dtype bfloat16 or float32 in Load LightBagel."
        )
    if vae.latent_dim == 3:  # a video model's VAE, for which a picture is one frame
        samples = samples.reshape(one_frame(latent.shape))
    image = vae.decode(samples)
    return image.reshape(-1, *image.shape[-3:]), {"samples": samples}
