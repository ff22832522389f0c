"""ComfyUI's own Wan model and Wan2.2 VAE, built to the sizes that a checkpoint's config.json names.

ComfyUI detects the real Wan2.2-TI2V-5B by its shapes and takes some of its numbers for granted. All of them are
arguments of its classes, so a model of other sizes (the nano) is built by the same classes from other numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import comfy.ldm.wan.model
import comfy.ldm.wan.vae2_2
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import torch
from torch import Tensor

from ...lightbagel_core.files.formats import Opened
from ...lightbagel_core.files.key_maps import original_transformer_names, original_vae_name
from ...lightbagel_core.files.precision import FLOAT8, FLOAT8_KINDS, is_scale
from .fusion import FUSION, fusion_stack
from .latents import ImageFormat, as_pictures, checked_channels, one_frame
from .weights import asked_float8, birthplace, is_float8, renamed, state_of, stored_weights


def unet_config(gen: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ComfyUI's WanModel, from those of diffusers'."""
    return {
        "image_model": "wan2.1",
        "model_type": "t2v",
        "patch_size": tuple(gen["patch_size"]),
        "dim": gen["num_attention_heads"] * gen["attention_head_dim"],
        "num_heads": gen["num_attention_heads"],
        "num_layers": gen["num_layers"],
        "ffn_dim": gen["ffn_dim"],
        "freq_dim": gen["freq_dim"],
        "text_dim": gen["text_dim"],
        "in_dim": gen["in_channels"],
        "out_dim": gen["out_channels"],
        "cross_attn_norm": gen["cross_attn_norm"],
        "eps": gen["eps"],
    }


def managed(module: Any, static: bool) -> Any:
    """A module under ComfyUI's memory management; `static` loads it whole even where ComfyUI streams weights."""
    kind = comfy.model_patcher.ModelPatcher if static else comfy.model_patcher.CoreModelPatcher
    return kind(
        module,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def wan_model(opened: Opened, dtype: torch.dtype | None, static: bool = False) -> Any:
    """A MODEL of ComfyUI's own Wan, with the weights of a generation component, and with the fusion stack of the same
    files as a part of it (see `fusion.FUSION`) if that was opened too.
    """
    config, tensors = opened.config, opened.components["generation"]
    described = comfy.supported_models.WAN22_T2V(unet_config(config.generation))
    statistics = (torch.tensor(config.vae[name]) for name in ("latents_mean", "latents_std"))
    described.latent_format = ImageFormat(*statistics, config.preview)
    described.sampling_settings = {"shift": config.defaults.shift}
    device = comfy.model_management.get_torch_device()
    supported = described.supported_inference_dtypes
    plain = None if dtype == FLOAT8 else dtype
    weight = plain or comfy.model_management.unet_dtype(
        model_params=sum(math.prod(t.shape) for t in tensors.values()), supported_dtypes=supported
    )
    if weight.itemsize == 1:  # ComfyUI was started with --fp8_e4m3fn-unet or the like
        dtype, weight = dtype or FLOAT8, comfy.model_management.unet_manual_cast(None, device, supported)
    state = state_of("generation", tensors, weight, asked_float8(dtype))
    if is_float8(state):
        described.quant_config = {"mixed_ops": True}
    asked = None if is_float8(state) else weight
    described.set_inference_dtype(weight, comfy.model_management.unet_manual_cast(asked, device, supported))
    offload = comfy.model_management.unet_offload_device()
    model = comfy.model_base.WAN22(described, device=birthplace(state, offload))
    # The names come from a model on torch's own layers: ComfyUI's may have no weights before they are loaded.
    bare = comfy.ldm.wan.model.WanModel(**described.unet_config, device="meta", operations=torch.nn)
    names = original_transformer_names(bare.state_dict())
    model.load_model_weights(renamed(state, names), "", assign=True)  # no second copy of what lies in the file
    model.diffusion_model.in_channels = described.unet_config["in_dim"]  # as image models say it: RenormCFG asks
    if "fusion" in opened.components:
        setattr(model.diffusion_model, FUSION, fusion_stack(opened, dtype, model.get_dtype_inference()))
    return managed(model, static)


SMALLEST = 16  # pixels that a cell of the latents covers: of less the VAE makes nothing


class SingleFrames(comfy.ldm.wan.vae2_2.WanVAE):
    """ComfyUI's Wan2.2 VAE for pictures: [B, 3, H, W] to [B, C, h, w] and back."""

    def encode(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().encode(x[:, :, None], *args, **kwargs)[:, :, 0]

    def decode(self, z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().decode(z[:, :, None], *args, **kwargs)[:, :, 0]


class ImageVAE(comfy.sd.VAE):
    """ComfyUI's VAE object as an image model's: IMAGE [B, H, W, 3] to LATENT [B, C, h, w] and back.

    A batch is several pictures. Latents of one frame, [B, C, 1, h, w], are decoded too.
    """

    def decode(self, samples_in: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().decode(self.own(samples_in), *args, **kwargs)

    def decode_tiled(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().decode_tiled(self.own(samples), *args, **kwargs)

    def own(self, latents: Tensor) -> Tensor:
        """Latents as pictures; it raises ValueError for those of a video, or of another model."""
        return checked_channels(as_pictures(latents), self.latent_channels, "samples")

    def encode(self, pixel_samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().encode(_batch(pixel_samples), *args, **kwargs)

    def encode_tiled(self, pixel_samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().encode_tiled(_batch(pixel_samples), *args, **kwargs)


def _batch(pixels: Tensor) -> Tensor:
    """IMAGE [B, H, W, 3], of one that may hold frames, [B, T, H, W, 3].

    Raises:
        ValueError: it has another number of channels, or is too small to have latents.
    """
    height, width, channels = pixels.shape[-3:]
    if channels != 3:
        raise ValueError(
            f"the pixels input has {channels} channels, and LightBagel's VAE takes pictures of red, green and blue: "
            "take the alpha channel off first, or decode latents of another model with its own VAE"
        )
    if min(height, width) < SMALLEST:
        raise ValueError(f"the pixels input is {width}x{height}: LightBagel's VAE needs at least {SMALLEST} each way")
    return pixels.reshape(-1, height, width, channels)


@contextmanager
def _building(**sizes: Any) -> Iterator[None]:
    """Inside, ComfyUI's VAE class builds `SingleFrames` in these sizes; it takes the real ones for granted."""
    module = comfy.ldm.wan.vae2_2
    stock = module.WanVAE
    module.WanVAE = lambda **fixed: SingleFrames(**{**fixed, **sizes})
    try:
        yield
    finally:
        module.WanVAE = stock


def wan_vae(opened: Opened) -> comfy.sd.VAE:
    """ComfyUI's VAE object around its own Wan2.2 VAE, for pictures."""
    vae = opened.config.vae
    sizes = {
        "dim": vae["base_dim"],
        "dec_dim": vae["decoder_base_dim"] or vae["base_dim"],
        "dim_mult": list(vae["dim_mult"]),
        "num_res_blocks": vae["num_res_blocks"],
        "temperal_downsample": list(vae["temperal_downsample"]),
    }
    tensors = opened.components["vae"]
    kinds = {
        n: torch.float32 if t.dtype in FLOAT8_KINDS else t.dtype for n, t in tensors.items() if not is_scale(n, tensors)
    }
    state = stored_weights(tensors, kinds)
    with _building(**sizes):
        made = ImageVAE(sd={original_vae_name(name, vae["num_res_blocks"]): weight for name, weight in state})
    for estimate in ("memory_used_encode", "memory_used_decode"):
        setattr(made, estimate, partial(_of_one_frame, getattr(made, estimate)))
    # A picture's ratios and formulas, in place of those of a video's three axes.
    made.latent_dim, made.latent_channels = 2, vae["z_dim"]
    made.upscale_ratio, made.downscale_ratio = made.upscale_ratio[-1], made.downscale_ratio[-1]
    made.upscale_index_formula = made.downscale_index_formula = None
    return made


def _of_one_frame(estimate: Callable[..., float], shape: Any, dtype: torch.dtype, **kwargs: Any) -> float:
    """Bytes that a VAE needs for pictures of a shape [B, C, H, W], by its estimate for videos."""
    return estimate(one_frame(shape), dtype, **kwargs)
