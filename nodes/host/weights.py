"""Stored weights as ComfyUI's own layers take them: cast, streamed and widened by ComfyUI."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import comfy.ops
import comfy.utils
import torch
from torch import Tensor, nn

from ...lightbagel_core.files.checkpoint import weights
from ...lightbagel_core.files.precision import FLOAT8, FLOAT8_KINDS, SCALE, Precision, dtypes, in_a_layer, is_scale
from ...lightbagel_core.files.tensor_files import Tensors

FORMATS = {torch.float8_e4m3fn: "float8_e4m3fn", torch.float8_e5m2: "float8_e5m2"}
MARK = ".comfy_quant"


def asked_float8(dtype: torch.dtype | None) -> bool | None:
    """Whether float8 weights are asked for: None leaves them as they are stored."""
    return None if dtype is None else dtype == FLOAT8


def state_of(
    part: str, tensors: Tensors, compute: torch.dtype, float8: bool | None, narrow: bool = False
) -> dict[str, Tensor]:
    """The weights of a part in one dtype, or in float8 with ComfyUI's marks beside them; where nothing changes they lie
    in the memory-mapped file. `narrow` leaves matrices there that are stored in less than `compute`, whose layers widen
    them when they are used.

    Raises:
        ValueError: a file is damaged.
    """
    kinds = {
        name: dtype if dtype in FLOAT8_KINDS else compute
        for name, dtype in dtypes(part, tensors, Precision(compute, float8)).items()
    }
    if narrow:
        kinds |= {
            name: min(tensors[name].dtype, dtype, key=lambda kind: kind.itemsize)
            for name, dtype in kinds.items()
            if in_a_layer(name, tensors[name].shape)
        }
    state = dict(stored_weights(tensors, kinds))
    for name, dtype in kinds.items():
        if dtype in FLOAT8_KINDS:
            # Only the weights are float8: activations stay as they are, whatever the card could multiply.
            about = json.dumps({"format": FORMATS[dtype], "full_precision_matrix_mult": True}).encode()
            state[name.removesuffix(".weight") + MARK] = torch.tensor(list(about), dtype=torch.uint8)
    return state


def stored_weights(tensors: Tensors, kinds: Mapping[str, torch.dtype]) -> Iterator[tuple[str, Tensor]]:
    """The core's `weights` on the CPU; with ComfyUI's --disable-mmap all of them in memory, none in its file.

    A file that is overwritten in place takes with it what lies there, and one that is cut off the whole program.
    """
    for name, weight in weights(tensors, kinds, torch.device("cpu")):
        yield name, weight.clone() if comfy.utils.DISABLE_MMAP else weight


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A state under other names of its weights, {ours: theirs}; scales and marks follow their weights."""
    made = {}
    for name, tensor in state.items():
        if name.endswith(MARK):
            made[names[f"{name.removesuffix(MARK)}.weight"].removesuffix(".weight") + MARK] = tensor
        elif is_scale(name, state):
            made[names[name.removesuffix(SCALE)] + SCALE] = tensor
        else:
            made[names[name]] = tensor
    return made


def is_float8(state: Mapping[str, Tensor]) -> bool:
    return any(name.endswith(MARK) for name in state)


def operations(state: Mapping[str, Tensor], compute: torch.dtype) -> Any:
    """The layers that hold such a state."""
    if is_float8(state):
        return comfy.ops.mixed_precision_ops({}, compute, full_precision_mm=True)
    return comfy.ops.manual_cast


class Uncast(comfy.ops.disable_weight_init):
    """Layers whose weights are of the activations' dtype; norms are cast, since some see float32."""

    RMSNorm = comfy.ops.manual_cast.RMSNorm


def uncast(dtype: torch.dtype) -> Any:
    """The layers for activations and weights of one dtype: no time goes into looking for what to cast."""
    return comfy.ops.disable_weight_init if dtype == torch.float32 else Uncast


def birthplace(state: Mapping[str, Tensor], offload: torch.device) -> torch.device:
    """Where to make a module that will be given such a state: on meta, which costs nothing, unless its layers take
    their weights to where they were made.
    """
    return offload if is_float8(state) else torch.device("meta")


def use_layers(module: nn.Module, layers: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Puts ComfyUI's own layers in the place of a transformers model's, so that ComfyUI may stream their weights.

    All that have weights: where not everything fits a card, ComfyUI leaves others than its own behind.
    """
    for name, inner in list(module.named_modules()):
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        if type(inner) is nn.Linear:
            made = layers.Linear(inner.in_features, inner.out_features, bias=inner.bias is not None, **place)
        elif type(inner) is nn.Embedding:
            made = layers.Embedding(inner.num_embeddings, inner.embedding_dim, **place)
        elif type(inner) is nn.Conv3d:
            sizes = inner.in_channels, inner.out_channels, inner.kernel_size, inner.stride
            made = layers.Conv3d(*sizes, bias=inner.bias is not None, **place)
        elif type(inner).__name__.endswith("RMSNorm"):
            made = layers.RMSNorm(len(inner.weight), eps=inner.variance_epsilon, **place)
        else:
            continue
        module.set_submodule(name, made)


def move_buffers(module: nn.Module, device: torch.device) -> None:
    """Brings a module's buffers to a device; ComfyUI does not where it streams the weights."""
    for inner in module.modules():
        for name, buffer in inner.named_buffers(recurse=False):
            setattr(inner, name, buffer.to(device))
