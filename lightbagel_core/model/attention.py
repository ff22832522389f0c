"""The fusion's attention over buffers of keys and values, and which kernels compute it.

Kernels are diffusers' attention backends, the same for the DiT's own attention as for the fusion's. Rows of a batch may
attend to different numbers of keys. Nothing here needs flash-attn; where it is installed and the device and dtype allow
it, it is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby

import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from torch import Tensor

from ..config import ATTENTION, AttentionName

DIFFUSERS = {
    "sdpa": AttentionBackendName.NATIVE,
    "flash": AttentionBackendName.FLASH,
    "flash3": AttentionBackendName._FLASH_3,
}
USABLE = {  # what diffusers found, and of which package
    "flash": ("_CAN_USE_FLASH_ATTN", "flash_attn"),
    "flash3": ("_CAN_USE_FLASH_ATTN_3", "flash_attn_interface"),
}
FEW = 4  # runs of equal lengths up to which one call for each is quicker than one call with a mask
Dense = Callable[[Tensor, Tensor, Tensor], Tensor]  # all of q [B, N, H, D] to all of k, v [B, W, H, D]


@dataclass(frozen=True)
class Reach:
    """Which keys of a buffer [B, W, H, D] the queries of each row attend to: the last `lengths[b]` of its W."""

    width: int
    lengths: tuple[int, ...]
    device: torch.device

    @cached_property
    def runs(self) -> list[tuple[slice, int]]:
        """(rows, length) of neighbours that reach equally far."""
        found, start = [], 0
        for length, rows in groupby(self.lengths):
            count = len(list(rows))
            found.append((slice(start, start + count), length))
            start += count
        return found

    @cached_property
    def mask(self) -> Tensor:
        """bool [B, 1, 1, W]."""
        first = self.width - torch.tensor(self.lengths, device=self.device)
        return (torch.arange(self.width, device=self.device) >= first[:, None])[:, None, None]

    def rows(self, index: list[int]) -> Reach:
        return Reach(self.width, tuple(self.lengths[i] for i in index), self.device)


@dataclass(frozen=True)
class Attention:
    """softmax(q k^T / sqrt(D)) v by one kernel, which need not know that rows reach unequally far.

    dense: the kernel. backend: what diffusers calls it, for the DiT's own attention.
    few: runs of rows that reach equally far, up to which each is a call of its own; None: always.
    masked: the kernel that takes a mask.
    """

    dense: Dense
    backend: AttentionBackendName = AttentionBackendName.NATIVE
    few: int | None = FEW
    masked: AttentionBackendName = AttentionBackendName.NATIVE

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
        """q [B, N, H, D] over what each row reaches of k and v [B, W, H, D]: one call for each run of rows that reach
        equally far, or, where these are many, one with a mask.
        """
        if self.few is not None and len(reach.runs) > self.few:
            drawn: Tensor = dispatch_attention_fn(q, k, v, attn_mask=reach.mask, backend=self.masked)
            return drawn
        done = [self.dense(q[rows], k[rows, -length:], v[rows, -length:]) for rows, length in reach.runs]
        return done[0] if len(done) == 1 else torch.cat(done)


def by_name(name: AttentionName) -> Attention:
    """The attention of one of diffusers' backends."""
    backend = DIFFUSERS[name]
    return Attention(partial(dispatch_attention_fn, backend=backend), backend)


SDPA = by_name("sdpa")


def for_training(device: torch.device, dtype: torch.dtype) -> Attention:
    """The attention to train with where keys and values come in `dtype`.

    On a CPU it is plain matrix products, made for the few tokens that pictures have there: of 16 tokens each, the fused
    kernel's backward pass takes three times as long. Torch is told, for the whole process, not to widen bfloat16 for
    them, which would take as long again.
    """
    if device.type != "cpu":
        return by_name(choose(device, dtype))
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # whatever its name says, for every device
    plain = AttentionBackendName._NATIVE_MATH
    return Attention(partial(dispatch_attention_fn, backend=plain), plain, few=1, masked=plain)


def why_not(name: AttentionName, device: torch.device, dtype: torch.dtype) -> str:
    """What keeps a backend from computing in this dtype on this device; empty: nothing."""
    if name == "sdpa":
        return ""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    if not (capability[0] == 9 if name == "flash3" else capability >= (8, 0)):
        return "needs a Hopper card" if name == "flash3" else "needs a CUDA card from Ampere on"
    if dtype not in (torch.bfloat16, torch.float16):
        return "needs bfloat16 or float16"
    found, package = USABLE[name]
    if not getattr(attention_dispatch, found, False):
        return f"needs the package {package}, which is not installed, too old, or made for another torch"
    return ""


def choose(device: torch.device, dtype: torch.dtype, name: str | None = None) -> AttentionName:
    """The attention for a model that computes in `dtype`: the one asked for, else the fastest that is there.

    Raises:
        ValueError: the one asked for is unknown, not installed, or not for this device and dtype.
    """
    asked = [n for n in ATTENTION if name in (None, n)]
    if not asked:
        raise ValueError(f"attention must be one of {', '.join(ATTENTION)}, not {name!r}")
    usable = [n for n in asked if not why_not(n, device, dtype)]
    if not usable:
        raise ValueError(
            f"attention {name} cannot be used on {device} in {dtype}: it {why_not(asked[0], device, dtype)}"
        )
    return usable[-1]
