"""AdamW with moments in 8 bits, by torchao, cut into blocks that stay whole on any number of processes.

torchao decides from the part of a tensor that lies on a process whether its moments become 8-bit, and its blocks run
over the ends of rows. Here the whole tensor's shape decides, and a block never leaves its row: so a checkpoint holds
the same tensors however many processes share the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

BLOCK = 256  # values with one scale, at most
LEAST_BLOCK, LEAST = 32, 4096  # smaller blocks or tensors would save nothing


def block(shape: torch.Size) -> int:
    """How many values share a scale in a tensor's moments; 0: they stay float32."""
    if len(shape) < 2 or shape.numel() < LEAST:
        return 0
    size = math.gcd(shape[1:].numel(), BLOCK)
    return size if size >= LEAST_BLOCK else 0


def adamw(params: Iterable[Tensor], **options: Any) -> torch.optim.Optimizer:
    """Gives torchao's AdamW8bit, with stochastic rounding of bfloat16 weights.

    Raises:
        ValueError: torchao is not installed.
    """
    try:
        from torchao.optim import AdamW8bit
    except ImportError:
        raise ValueError("adamw-8bit needs torchao: pip install torchao, or take optimiser.name=adamw") from None

    class AdamW(AdamW8bit):
        in_blocks = True

        def _new_buffer(self, p: Tensor, signed: bool) -> Tensor:
            size = block(p.shape)
            part = p.to_local() if isinstance(p, DTensor) else p
            if size and part.numel():
                made = self._subclass_zeros(part, signed, size)
            else:
                made = torch.zeros_like(part, dtype=torch.float32)
            return like(p, made)

    return AdamW(params, **options, block_size=BLOCK, bf16_stochastic_round=True)


def is_used(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimiser came from `adamw`."""
    return getattr(optimizer, "in_blocks", False)


def like(whole: Tensor, part: Tensor) -> Tensor:
    """A process's part of something as one tensor, shared among processes along its first axis as `whole` is."""
    if not isinstance(whole, DTensor):
        return part
    shape = torch.Size([whole.shape[0], *part.shape[1:]])
    stride = tuple(shape[i + 1 :].numel() for i in range(len(shape)))
    return DTensor.from_local(part, whole.device_mesh, whole.placements, run_check=False, shape=shape, stride=stride)


def pieces(param: Tensor, moment: Tensor) -> dict[str, Tensor]:
    """Views of a moment as plain tensors, by the end of their name: {"": all} or {"_codes": ..., "_scale": ...}.

    Codes have the weight's shape, scales are [rows, blocks in a row]; both are shared among processes by rows.
    """
    held: Any = moment.to_local() if isinstance(moment, DTensor) else moment
    size = block(param.shape)
    if not size:
        return {"": moment}
    rows, each = held.shape[0], param.shape[1:].numel() // size
    if held.numel():
        codes, scale = held.codes, held.scale.view(rows, each)
    else:  # fewer rows than processes, and none for this one
        codes, scale = held.new_zeros(held.shape, dtype=torch.uint8), held.new_zeros(0, each)
    return {"_codes": like(param, codes), "_scale": like(param, scale)}
