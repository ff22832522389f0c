"""Checkpoints to MODEL, CLIP and VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from ...lightbagel_core.checkpoint import load_understanding, open_folder, read_part
from .attach import attach
from .clip import clip
from .wan import fusion_model, wan_model, wan_vae

MODEL_SAMPLING = "model_sampling"  # ComfyUI's name for what shift is a part of


def load_checkpoint(folder: Path, dtype: torch.dtype | None) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of a checkpoint folder; without a dtype ComfyUI chooses one for this machine.

    Raises:
        ValueError: anything missing, unexpected, damaged or of a wrong shape.
    """
    config, parts = open_folder(folder)
    model = attach(load_generation(folder, dtype), load_fusion(folder, dtype))
    offload = comfy.model_management.text_encoder_offload_device()
    und = load_understanding(folder, config, parts["understanding"], offload, understanding_dtype(dtype))
    return model, clip(und, config), wan_vae(config, read_part(folder, "vae", parts["vae"]))


def understanding_dtype(asked: torch.dtype | None) -> torch.dtype:
    """What Qwen2.5-VL computes in where `asked` was asked for: never float16, in which it overflows."""
    if asked not in (None, torch.float16):
        return asked
    half = comfy.model_management.should_use_bf16(comfy.model_management.text_encoder_device())
    return torch.bfloat16 if half else torch.float32


def load_generation(folder: Path, dtype: torch.dtype | None, disable_dynamic: bool = False) -> Any:
    """The bare Wan of a checkpoint folder, which ComfyUI may load again: for TorchCompileModel, hooks, several GPUs."""
    config, parts = open_folder(folder)
    model = wan_model(config, read_part(folder, "generation", parts["generation"]), dtype, disable_dynamic)
    model.cached_patcher_init = (load_generation, (folder, dtype))
    return model


def load_fusion(folder: Path, dtype: torch.dtype | None, disable_dynamic: bool = False) -> Any:
    """The fusion stack of a checkpoint folder, which ComfyUI may load again as it may Wan."""
    config, parts = open_folder(folder)
    fusion = fusion_model(config, read_part(folder, "fusion", parts["fusion"]), dtype, disable_dynamic)
    fusion.cached_patcher_init = (load_fusion, (folder, dtype))
    return fusion


def apply_fusion(model: Any, folder: Path) -> Any:
    """A Wan MODEL with a checkpoint's fusion stack on it, and with its shift if nobody has set another.

    Raises:
        ValueError: the MODEL is no Wan model of the fusion stack's sizes.
    """
    config, _ = open_folder(folder)
    wan = model.model.diffusion_model
    wanted = (config.fusion.layers + 1, config.fusion.gen_dim)
    found = (len(getattr(wan, "blocks", ())), getattr(wan, "dim", None))
    if found != wanted:
        raise ValueError(
            f"this fusion stack is for a Wan model of {wanted[0]} blocks and width {wanted[1]}, not of {found[0]} and "
            f"{found[1]}. LightBagel's own needs Wan2.2-TI2V-5B."
        )
    if MODEL_SAMPLING not in model.object_patches:
        (model,) = ModelSamplingSD3().patch(model, config.defaults.shift)
    return attach(model, load_fusion(folder, None))
