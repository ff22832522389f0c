"""ComfyUI's own Wan model and Wan2.2 VAE, built to the sizes that a checkpoint's config.json names.

ComfyUI detects the real Wan2.2-TI2V-5B by its shapes and takes some of its numbers for granted. All of them are
arguments of its classes, so a model of other sizes (the nano) is built by the same classes from other numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.latent_formats
import comfy.ldm.wan.vae2_2
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import torch
from torch import Tensor

from ...lightbagel_core.config import LightBagelConfig, Preview
from ...lightbagel_core.fusion import FusionStack
from ...lightbagel_core.names import original_transformer_names, original_vae_name


class LatentFormat(comfy.latent_formats.Wan22):
    """Wan2.2's latent format with a VAE's own statistics and preview colours."""

    def __init__(self, vae: dict[str, Any], preview: Preview | None) -> None:
        super().__init__()
        if preview is not None:
            self.latent_rgb_factors, self.latent_rgb_factors_bias = preview.factors, preview.bias
        shape = (1, vae["z_dim"], 1, 1, 1)
        self.latents_mean = torch.tensor(vae["latents_mean"]).view(shape)
        self.latents_std = torch.tensor(vae["latents_std"]).view(shape)


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


def wan_model(
    config: LightBagelConfig, state: dict[str, Tensor], dtype: torch.dtype | None, static: bool = False
) -> Any:
    """A MODEL of ComfyUI's own Wan, with the weights of a checkpoint's generation part (diffusers' names)."""
    described = comfy.supported_models.WAN22_T2V(unet_config(config.generation))
    described.latent_format = LatentFormat(config.vae, config.preview)
    described.sampling_settings = {"shift": config.defaults.shift}
    device = comfy.model_management.get_torch_device()
    weight = dtype or comfy.model_management.unet_dtype(
        model_params=sum(t.numel() for t in state.values()), supported_dtypes=described.supported_inference_dtypes
    )
    cast = comfy.model_management.unet_manual_cast(weight, device, described.supported_inference_dtypes)
    described.set_inference_dtype(weight, cast)
    model = comfy.model_base.WAN22(described)
    patcher = managed(model, static)
    names = original_transformer_names(model.diffusion_model.state_dict())
    model.load_model_weights({names[k]: v for k, v in state.items()}, "", assign=patcher.is_dynamic())
    return patcher


def fusion_model(
    config: LightBagelConfig, state: dict[str, Tensor], dtype: torch.dtype | None, static: bool = False
) -> Any:
    """The fusion stack under ComfyUI's memory management, cast to the activations' type layer by layer."""
    offload = comfy.model_management.unet_offload_device()
    weight = dtype or next(iter(state.values())).dtype
    stack = FusionStack(config.fusion, comfy.ops.manual_cast, device=offload, dtype=weight)
    stack.eval().requires_grad_(False)
    patcher = managed(stack, static)
    stack.load_state_dict({name: t.to(weight) for name, t in state.items()}, assign=patcher.is_dynamic())
    return patcher


@contextmanager
def _sizes(**sizes: Any) -> Iterator[None]:
    """Inside, ComfyUI's VAE class builds its Wan2.2 VAE in these sizes; it takes the real ones for granted."""
    module = comfy.ldm.wan.vae2_2
    stock = module.WanVAE
    module.WanVAE = lambda **fixed: stock(**{**fixed, **sizes})
    try:
        yield
    finally:
        module.WanVAE = stock


def wan_vae(config: LightBagelConfig, state: dict[str, Tensor]) -> comfy.sd.VAE:
    """ComfyUI's VAE object around its own Wan2.2 VAE, with a checkpoint's weights (diffusers' names)."""
    vae = config.vae
    sizes = {
        "dim": vae["base_dim"],
        "dec_dim": vae["decoder_base_dim"] or vae["base_dim"],
        "dim_mult": list(vae["dim_mult"]),
        "num_res_blocks": vae["num_res_blocks"],
        "temperal_downsample": list(vae["temperal_downsample"]),
    }
    names = {name: original_vae_name(name, vae["num_res_blocks"]) for name in state}
    with _sizes(**sizes):
        made = comfy.sd.VAE(sd={names[name]: tensor for name, tensor in state.items()})
    made.not_video = True  # a batch is several pictures, not the frames of one film
    return made
