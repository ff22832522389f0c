"""Which dtype each weight has when a model computes in float32, bfloat16, float16, or with float8 weights.

The one rule, for the loader, the converter and the memory plan alike (`dtypes`):
- time embedding, modulation, norms and head of the DiT, the norms of the fusion stack, and the VAE stay float32;
- Qwen2.5-VL never becomes float16, in which its activations overflow: it takes bfloat16 there;
- float8 (e4m3, one float32 scale a weight, as ComfyUI's files keep it) holds the matrices of numbered layers only; they
  are widened to the activations' dtype when they are used. Everything else is bfloat16 then.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import MODEL_DTYPES
from .tensor_files import Stored

FLOAT8 = torch.float8_e4m3fn
FLOAT8_KINDS = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALE = "_scale"  # the scale of X.weight is called X.weight_scale
ROWS = 64  # of a matrix made float8 at a time
MODES: dict[str, torch.dtype] = {name: getattr(torch, kind) for name, kind in MODEL_DTYPES.items()}
_IN_A_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks)\.\d+\.(?:.+\.)?weight")


def default_device() -> torch.device:
    """The accelerator that is there, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@dataclass(frozen=True)
class Precision:
    """compute: the activations' dtype. float8: True makes matrices float8, False widens them, None keeps them so."""

    compute: torch.dtype
    float8: bool | None = None

    @classmethod
    def of(cls, dtype: torch.dtype | None, device: torch.device) -> Precision:
        """From one dtype a person asks for; None: what suits the device, and float8 where files have it.

        Raises:
            ValueError: a dtype the model does not run in.
        """
        if dtype is None:
            float8 = False if device.type == "mps" else None  # which has no float8
            return cls(torch.float32 if device.type == "cpu" else torch.bfloat16, float8)
        if dtype == FLOAT8 and device.type == "mps":
            raise ValueError("an Apple GPU has no float8; choose bfloat16 or float16")
        if dtype == FLOAT8:
            return cls(torch.bfloat16, True)
        if dtype not in MODES.values():
            raise ValueError(f"the model does not run in {dtype}; choose {', '.join(MODES)}")
        return cls(dtype, False)


def dtypes(component: str, tensors: Mapping[str, Stored], precision: Precision) -> dict[str, torch.dtype]:
    """The dtype of every weight of a component when it is loaded; scales among the `tensors` are left out."""
    return {
        name: _dtype(component, name, tensor.shape, tensor.dtype, precision)
        for name, tensor in tensors.items()
        if not is_scale(name, tensors)
    }


def is_scale(name: str, names: Collection[str]) -> bool:
    return name.endswith(f".weight{SCALE}") and name.removesuffix(SCALE) in names


def _dtype(component: str, name: str, shape: tuple[int, ...], held: torch.dtype, precision: Precision) -> torch.dtype:
    if component == "vae":
        return torch.float32
    if in_a_layer(name, shape) and precision.float8 is not False and (precision.float8 or held in FLOAT8_KINDS):
        return held if held in FLOAT8_KINDS else FLOAT8
    if component == "generation":
        return weight_dtype(name, precision.compute)
    if component == "fusion" and "norm." in name:
        return torch.float32
    if component == "understanding" and precision.compute == torch.float16:
        return torch.bfloat16
    return precision.compute


def weight_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """A DiT tensor's dtype when the model runs in `dtype`: time embedding, modulation, norms, head stay float32."""
    inside = (".attn1.", ".attn2.", ".ffn.", "patch_embedding.", "text_embedder.")
    return dtype if any(part in name for part in inside) else torch.float32


def in_a_layer(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a weight is a matrix of a numbered layer: where nearly all of a model's bytes are."""
    return len(shape) == 2 and _IN_A_LAYER.search(name) is not None


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as float8 and its scale, float32 []: weight is about float8 * scale.

    Some rows at a time: in float32, which the division needs, the whole would be four times as large.
    """
    low, high = torch.aminmax(weight)
    scale = scale_of(torch.maximum(-low, high))
    made = torch.empty_like(weight, dtype=FLOAT8)
    for rows, narrow in zip(weight.split(ROWS), made.split(ROWS), strict=True):
        narrow.copy_(to_float8(rows, scale))
    return made, scale


def scale_of(largest: Tensor) -> Tensor:
    """The scale that puts a weight's largest magnitude at float8's largest number; 1 for a weight of zeros."""
    scale = largest.float() / torch.finfo(FLOAT8).max
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def to_float8(weight: Tensor, scale: Tensor) -> Tensor:
    limit = torch.finfo(FLOAT8).max
    return (weight.float() / scale).clamp(-limit, limit).to(FLOAT8)


def widened(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A float8 weight times its scale, in `dtype`."""
    wide = weight.to(dtype)
    return wide if scale is None else wide.mul_(scale.to(weight.device))  # in place: one copy is enough


class Float8Linear(nn.Module):
    """A linear layer whose matrix lies in float8 and is widened when it is used."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        shape = like.weight.shape
        self.out_features, self.in_features = shape  # under the names of any linear layer, for adapters
        self.weight = nn.Parameter(torch.empty(shape, dtype=FLOAT8, device="meta"), requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty((), device="meta"), requires_grad=False)
        self.bias = like.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, widened(self.weight, self.weight_scale, x.dtype), self.bias)


def use_float8(module: nn.Module, kinds: Mapping[str, torch.dtype]) -> None:
    """Puts a `Float8Linear` wherever the weight's dtype is a float8."""
    for name, dtype in kinds.items():
        if dtype in FLOAT8_KINDS:
            at = name.removesuffix(".weight")
            linear = module.get_submodule(at)
            if not isinstance(linear, Float8Linear):
                module.set_submodule(at, Float8Linear(linear))
