"""Files to MODEL, CLIP and VAE."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.text_encoders
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from ...lightbagel_core.files.checkpoint import build_modules
from ...lightbagel_core.files.components import COMPONENTS
from ...lightbagel_core.files.formats import Opened, open_model
from ...lightbagel_core.files.precision import FLOAT8
from ...lightbagel_core.files.tokenizer import find_tokenizer
from .clip import clip
from .fusion import fusion_stack
from .hooks import attach
from .lora import add, parts, tensors_of
from .patched import MODEL_SAMPLING
from .wan import managed, wan_model, wan_vae
from .weights import asked_float8, birthplace, operations, state_of, use_layers

TOKENIZER = Path(next(iter(comfy.text_encoders.__path__))) / "qwen25_tokenizer"  # the one that ComfyUI ships


@dataclass(frozen=True)
class Files:
    """What a person chose: a checkpoint, base models' files for some components, (component, file) each, and a LoRA of
    the fusion stack, (file, strength).
    """

    checkpoint: Path
    components: tuple[tuple[str, Path], ...] = ()
    lora: tuple[Path, float] | None = None

    def open(self, need: Collection[str] = COMPONENTS) -> Opened:
        """Raises ValueError: anything missing, unexpected, damaged or of a wrong shape."""
        components = dict(self.components)
        own = find_tokenizer(components.get("understanding"), self.checkpoint)
        return open_model(self.checkpoint, components=components, tokenizer=own or TOKENIZER, need=need)


def load_checkpoint(files: Files, dtype: torch.dtype | None) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE); without a dtype ComfyUI chooses one for this machine, and float8 stays as stored.

    Raises:
        ValueError: anything missing, unexpected, damaged or of a wrong shape.
    """
    opened = files.open()
    model = attach(load_generation(files, dtype), opened.config)
    return model, load_understanding(files, dtype), wan_vae(opened)


def understanding_dtype(asked: torch.dtype | None) -> torch.dtype:
    """What Qwen2.5-VL computes in where `asked` was asked for: never float16, in which it overflows."""
    if asked not in (None, torch.float16, FLOAT8):
        return asked
    half = comfy.model_management.should_use_bf16(comfy.model_management.text_encoder_device())
    return torch.bfloat16 if half else torch.float32


def load_understanding(files: Files, dtype: torch.dtype | None, disable_dynamic: bool = False) -> Any:
    """The understanding branch as CLIP: transformers' Qwen2.5-VL on ComfyUI's layers."""
    opened = files.open(["understanding"])
    und, *_ = build_modules(opened, comfy.model_management.text_encoder_device())
    compute = understanding_dtype(dtype)
    tensors = opened.components["understanding"]
    state = state_of("understanding", tensors, compute, asked_float8(dtype), narrow=dtype is None)
    offload = comfy.model_management.text_encoder_offload_device()
    use_layers(und.vlm, operations(state, compute), birthplace(state, offload), compute)
    und.vlm.load_state_dict(state, assign=True)
    und.vlm.to(offload).eval().requires_grad_(False)
    made = clip(und, opened.config, disable_dynamic)
    made.patcher.cached_patcher_init = (load_clip_patcher, (files, dtype))
    return made


def load_clip_patcher(files: Files, dtype: torch.dtype | None, disable_dynamic: bool = False, **kwargs: Any) -> Any:
    """What manages the CLIP's memory, loaded again as ComfyUI may want it."""
    return load_understanding(files, dtype, disable_dynamic).patcher


def load_generation(files: Files, dtype: torch.dtype | None, disable_dynamic: bool = False, **kwargs: Any) -> Any:
    """The Wan of some files with its fusion stack and its LoRA, which ComfyUI may load again: for TorchCompileModel,
    hooks, several GPUs.
    """
    opened = files.open(["generation", "fusion"])
    file, strength = files.lora or (None, 0.0)
    added = parts(file, opened.components) if file else {}
    model = wan_model(opened, dtype, disable_dynamic)
    for component, additions in added.items():
        add(model, component, additions, strength)
    model.cached_patcher_init = (load_generation, (files, dtype))
    return model


def load_fusion(
    files: Files, dtype: torch.dtype | None, compute: torch.dtype, disable_dynamic: bool = False, **kwargs: Any
) -> Any:
    """The fusion stack of some files for a Wan that computes in `compute`, to stand beside it; loaded again like it."""
    opened = files.open(["fusion"])
    fusion = managed(fusion_stack(opened, dtype, compute), disable_dynamic)
    if files.lora:
        file, strength = files.lora
        add(fusion, "fusion", parts(file, opened.components)["fusion"], strength)
    fusion.cached_patcher_init = (load_fusion, (files, dtype, compute))
    return fusion


def apply_fusion(model: Any, files: Files) -> Any:
    """A Wan MODEL with a checkpoint's fusion stack on it, and with its shift if nobody has set another.

    Raises:
        ValueError: the MODEL is no Wan model of the fusion stack's sizes; the LoRA does not fit them.
    """
    opened = files.open(["fusion"])
    config = opened.config
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
    # Checked before anything is loaded, and against both: of a stack alone no file of the DiT's part is a stranger.
    file, strength = files.lora or (None, 0.0)
    added = parts(file, {**opened.components, "generation": tensors_of(wan)}) if file else {}
    model = attach(model, config, load_fusion(files, None, model.model.get_dtype_inference()))
    add(model, "generation", added.get("generation", {}), strength)
    return model
