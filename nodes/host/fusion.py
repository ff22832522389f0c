"""The fusion stack inside ComfyUI: what it is made of, where it stands, and how it is saved with its MODEL.

Load LightBagel builds its Wan itself and makes the stack a part of it, `diffusion_model.lightbagel`: so ComfyUI loads,
streams and frees it with the model, and LoRA loaders, merging nodes and saving nodes see its weights. Apply LightBagel
Fusion is given a Wan that other nodes use too: there the stack is an additional model of the MODEL, beside its Wan.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ...lightbagel_core.config import LightBagelConfig
from ...lightbagel_core.files.embedded import as_tensor
from ...lightbagel_core.files.formats import Opened
from ...lightbagel_core.files.precision import FLOAT8, FLOAT8_KINDS
from ...lightbagel_core.model.fusion import FusionStack
from .say import once
from .weights import asked_float8, birthplace, is_float8, operations, state_of, uncast

FUSION = "lightbagel"  # the attribute of a Wan that its fusion stack is
SAVING = "model_config.process_unet_state_dict_for_saving"  # ComfyUI's name for what gives a saved MODEL its tensors


def fusion_stack(opened: Opened, dtype: torch.dtype | None, compute: torch.dtype) -> FusionStack:
    """The fusion stack on ComfyUI's own layers.

    Its weights are of the dtype it computes in, `compute`, unless that is wider: then they are cast layer by layer.
    """
    tensors = opened.components["fusion"]
    stored = tensors["context"].dtype
    weight = dtype if dtype not in (None, FLOAT8) else torch.bfloat16 if stored in FLOAT8_KINDS else stored
    weight = compute if compute.itemsize <= weight.itemsize else weight
    state = state_of("fusion", tensors, weight, asked_float8(dtype))
    layers = uncast(weight) if weight == compute and not is_float8(state) else operations(state, weight)
    offload = comfy.model_management.unet_offload_device()
    place = birthplace(state, offload)
    stack = FusionStack(opened.config.fusion, layers, device=place, dtype=weight)
    stack.load_state_dict(state, assign=True)
    return stack.eval().requires_grad_(False)


def saved(
    original: Callable[..., dict[str, Tensor]], config: LightBagelConfig, beside: Any | None
) -> Callable[..., dict[str, Tensor]]:
    """What ComfyUI's `original` makes of a Wan's tensors before it saves them, with the fusion stack and the config.

    Args:
        beside: what manages the stack where it is no part of the Wan.
    """

    def process(state: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        state = dict(state)
        if beside is not None:
            state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{FUSION}.")}
            state |= {f"{FUSION}.{name}": tensor for name, tensor in patched(beside).items()}
        state[f"{FUSION}.config.json"] = as_tensor(json.dumps(config.to_dict()).encode())
        return original(state, **kwargs)

    return process


def patched(patcher: Any) -> dict[str, Tensor]:
    """The tensors of a module with its patches, whether ComfyUI has it loaded just now or not."""
    missing = [key for key in patcher.patches if key not in patcher.backup]
    for key in missing:
        patcher.patch_weight_to_device(key, device_to=comfy.utils.get_attr(patcher.model, key).device)
    state: dict[str, Tensor] = patcher.model.state_dict()
    for key in missing:
        comfy.utils.set_attr_param(patcher.model, key, patcher.backup.pop(key).weight)
    return state


def patch_outside_layers(patcher: Any, device: Any, *_: Any, **kwargs: Any) -> None:
    """Gives their patches to the weights of modules that have other modules inside: the learned context, and Wan's
    modulations. ComfyUI, which has just loaded the model, passes over them; it puts them back when it unloads it.
    """
    for key in patcher.patches:
        owner, _, name = key.rpartition(".")
        module = patcher.model.get_submodule(owner)
        own = dict(module.named_parameters(recurse=False))
        if name in own and len(list(module.parameters())) > len(own):
            if key in patcher.backup:  # it was patched when it was last loaded
                comfy.utils.set_attr_param(patcher.model, key, patcher.backup[key].weight)
            patcher.patch_weight_to_device(key, device_to=device)


def warn_of_merging(patches: Mapping[str, list[Any]]) -> None:
    """Says in the log that a MODEL whose stack stands beside its Wan was merged without the stack, where it was."""
    if any(isinstance(patch[1], list) for each in patches.values() for patch in each):
        once(
            "this MODEL was merged with another one, and its fusion stack was not: behind Apply LightBagel "
            "Fusion the stack stands beside the model, where merging nodes do not reach. It stays the first MODEL's. "
            "To merge fusion stacks too, merge MODELs of Load LightBagel."
        )
