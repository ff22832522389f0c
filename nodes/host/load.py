"""Checkpoints to MODEL, CLIP and VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import torch

from ...lightbagel_core.checkpoint import load_understanding, open_folder, read_part
from .attach import attach
from .clip import clip
from .wan import fusion_model, wan_model, wan_vae


def load_checkpoint(folder: Path, dtype: torch.dtype | None) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE) of a checkpoint folder; without a dtype ComfyUI chooses one for this machine.

    Raises:
        ValueError: anything missing, unexpected, damaged or of a wrong shape.
    """
    config, parts = open_folder(folder)
    state = {name: read_part(folder, name, parts[name]) for name in ("generation", "fusion", "vae")}
    model = attach(wan_model(config, state["generation"], dtype), fusion_model(config, state["fusion"], dtype))
    device = comfy.model_management.text_encoder_offload_device()
    und_dtype = dtype or comfy.model_management.text_encoder_dtype(comfy.model_management.text_encoder_device())
    und = load_understanding(folder, config, parts["understanding"], device, und_dtype)
    return model, clip(und, config), wan_vae(config, state["vae"])


def apply_fusion(model: Any, folder: Path) -> Any:
    """A Wan MODEL with a checkpoint's fusion stack on it.

    Raises:
        ValueError: the MODEL is no Wan model of the fusion stack's sizes.
    """
    config, parts = open_folder(folder)
    wan = model.model.diffusion_model
    wanted = (config.fusion.layers + 1, config.fusion.gen_dim)
    found = (len(getattr(wan, "blocks", ())), getattr(wan, "dim", None))
    if found != wanted:
        raise ValueError(
            f"this fusion stack is for a Wan model of {wanted[0]} blocks and width {wanted[1]}, not of {found[0]} and "
            f"{found[1]}. LightBagel's own needs Wan2.2-TI2V-5B."
        )
    return attach(model, fusion_model(config, read_part(folder, "fusion", parts["fusion"]), None))
