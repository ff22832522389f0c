"""The LoRA of a fusion stack, as ComfyUI's own patches: its memory management, hooks and saving nodes see it as they
see those of its LoRA loaders.

Where the stack is a part of its Wan, ComfyUI's own loaders reach it as well; where it stands beside one, they do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.lora
import torch
from comfy.patcher_extension import CallbacksMP
from torch import Tensor, nn

from ...lightbagel_core.files.lora import ABOUT, ALPHA, DOWN, UP, Added, Difference, read_lora, written_name
from ...lightbagel_core.files.tensor_files import Stored, Tensors, read
from ...lightbagel_core.model.fusion import FusionStack
from .conditioning import KEY
from .fusion import FUSION, patch_outside_layers
from .say import once

METADATA = "lora_metadata"  # what ComfyUI's LoRA loaders leave on a MODEL: the metadata of the last file


def parts(file: Path, components: Mapping[str, Tensors]) -> dict[str, dict[str, Added]]:
    """{component: {weight or bias: what the file adds to it}} of a LoRA of the fusion stack, or of stack and DiT.

    Raises:
        ValueError: the file is missing or damaged, is of another model, or has nothing for the fusion stack.
    """
    found = read_lora(file, components)
    if not found.get("fusion"):
        raise ValueError(
            f"{file} is a LoRA of the DiT and holds nothing for the fusion stack: choose none as fusion_lora, and "
            "load it with ComfyUI's own LoRA loader (LoraLoaderModelOnly) behind this node"
        )
    return found


def add(patcher: Any, component: str, additions: Mapping[str, Added], strength: float) -> None:
    """Gives a MODEL, or what manages a fusion stack alone, a LoRA's part for one component as patches."""
    if not (additions and strength):
        return
    state: dict[str, Tensor] = {}
    names, differences = {}, {}
    for target, added in additions.items():
        name = written_name(component, target)
        own = name + (".weight" if target.endswith(".weight") else "")  # of what is no layer's the name is the whole
        key = target if isinstance(patcher.model, FusionStack) else own
        if isinstance(added, Difference):
            differences[key] = ("diff", (read(added.values).clone(),))  # a copy: what lies in a file is lost with it
            continue
        for end, half in ((DOWN, added.down), (UP, added.up)):
            state[f"{name}.{end}"] = read(half).clone()
        state[f"{name}.{ALPHA}"] = torch.tensor(added.scale * added.rank)
        names[name] = key
    patcher.add_patches({**comfy.lora.load_lora(state, names), **differences}, strength)
    patcher.remove_callbacks_with_key(CallbacksMP.ON_LOAD, KEY)
    patcher.add_callback_with_key(CallbacksMP.ON_LOAD, KEY, patch_outside_layers)


def tensors_of(wan: nn.Module) -> Tensors:
    """The tensors of somebody's Wan as if in a file, by their original names, without those of a fusion stack."""
    return {
        name: Stored(Path(), name, tuple(weight.shape), weight.dtype, 0, tuple(weight.shape))
        for name, weight in wan.named_parameters()
        if not name.startswith(f"{FUSION}.")
    }


def warn_of_loras(model: Any, beside: Any) -> None:
    """Says in the log that a LoRA of the fusion stack did not reach a stack that stands beside its Wan, where the last
    LoRA loader had one. Older ComfyUIs keep no metadata: there their own log alone names what was not loaded.
    """
    try:
        said = json.loads((model.get_attachment(METADATA) or {}).get(ABOUT, "{}"))
    except ValueError:
        return
    if isinstance(said, dict) and "fusion" in (said.get("component") or ()) and not beside.patches:
        once(
            "a LoRA loader on this MODEL was given a LoRA of the fusion stack, which it does not reach: behind Apply "
            "LightBagel Fusion the stack stands beside the model. Choose the file as fusion_lora in that node."
        )
