"""The fusion's attention over buffers of keys and values, and which kernels compute it.

Kernels are diffusers' attention backends, the same for the DiT's own attention as for the fusion's. Rows of a batch may
attend to different numbers of keys. Nothing here needs flash-attn; where it is installed and the device and dtype allow
it, it is chosen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from torch import Tensor

from ..config import ATTENTION, AttentionName

DIFFUSERS = {
    "sdpa": AttentionBackendName.NATIVE,
    "flash": AttentionBackendName.FLASH,
    "flash3": AttentionBackendName._FLASH_3,
}
MODULES = {"flash": "flash_attn", "flash3": "flash_attn_interface"}
USABLE = {"flash": "_CAN_USE_FLASH_ATTN", "flash3": "_CAN_USE_FLASH_ATTN_3"}  # what diffusers found
FEW = 4  # runs of equal lengths up to which one call for each is quicker than one call with a mask


@dataclass(frozen=True)
class Reach:
    """Which keys of a buffer [B, W, H, D] the N queries of each row attend to: the last `lengths[b]` of its W."""

    width: int
    lengths: tuple[int, ...]
    queries: int
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

    @cached_property
    def boundaries(self) -> tuple[Tensor, Tensor]:
        """Where sequences begin and end in all queries [B * N, ...] and keys [B * W, ...], int32 [2 B + 1] each.

        What a row does not reach is a sequence of its own, which nobody asks anything.
        """
        q, k = [0], [0]
        for b, length in enumerate(self.lengths):
            q += [b * self.queries, (b + 1) * self.queries]
            k += [(b + 1) * self.width - length, (b + 1) * self.width]
        q_at, k_at = (torch.tensor(at, dtype=torch.int32, device=self.device) for at in (q, k))
        return q_at, k_at

    def rows(self, index: list[int]) -> Reach:
        return Reach(self.width, tuple(self.lengths[i] for i in index), self.queries, self.device)


Dense = Callable[[Tensor, Tensor, Tensor], Tensor]  # all of q [B, N, H, D] to all of k, v [B, W, H, D]


def run_by_run(dense: Dense, q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
    """Attention by a kernel that knows no lengths: one call for each run of rows that reach equally far."""
    parts = [
        dense(q[rows], k[rows, reach.width - length :], v[rows, reach.width - length :]) for rows, length in reach.runs
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@dataclass(frozen=True)
class Attention:
    """Attention by one backend.

    varlen: its kernel for unequal lengths, called as flash-attn's flash_attn_varlen_func is; None: it has none.
    """

    name: AttentionName = "sdpa"
    varlen: Callable[..., Any] | None = None

    @property
    def backend(self) -> AttentionBackendName:
        """What diffusers calls it."""
        return DIFFUSERS[self.name]

    def dense(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of all of q [B, N, H, D] to all of k and v [B, W, H, D]."""
        return dispatch_attention_fn(q, k, v, backend=self.backend)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
        """softmax(q k^T / sqrt(D)) v over what each row reaches; q [B, N, H, D], k and v [B, W, H, D]."""
        if self.varlen is not None and len(set(reach.lengths)) > 1:
            packed = (x.flatten(0, 1) for x in (q, k, v))
            out = self.varlen(*packed, *reach.boundaries, reach.queries, reach.width)
            return (out[0] if isinstance(out, tuple) else out).view_as(q)  # flash-attn 3 may give its sums as well
        if self.name == "sdpa" and len(reach.runs) > FEW:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            return F.scaled_dot_product_attention(q, k, v, attn_mask=reach.mask).transpose(1, 2)
        return run_by_run(self.dense, q, k, v, reach)


SDPA = Attention()


def _unfit(name: AttentionName, device: torch.device, dtype: torch.dtype) -> str:
    """What keeps flash-attn's kernels from this dtype on this device, installed or not; empty: nothing."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    if not (capability[0] == 9 if name == "flash3" else capability >= (8, 0)):
        return "needs a Hopper card" if name == "flash3" else "needs a CUDA card from Ampere on"
    return "" if dtype in (torch.bfloat16, torch.float16) else "needs bfloat16 or float16"


def why_not(name: AttentionName, device: torch.device, dtype: torch.dtype) -> str:
    """What keeps a backend from computing in this dtype on this device; empty: nothing."""
    if name == "sdpa":
        return ""
    if unfit := _unfit(name, device, dtype):
        return unfit
    if not getattr(attention_dispatch, USABLE[name], False):
        return f"needs the package {MODULES[name]}, which is not installed, too old, or made for another torch"
    return ""


def choose(device: torch.device, dtype: torch.dtype, name: str | None = None) -> Attention:
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
    return Attention(usable[-1], _varlen(usable[-1], device, dtype))


def _varlen(name: AttentionName, device: torch.device, dtype: torch.dtype) -> Callable[..., Any] | None:
    if name in MODULES:
        return importlib.import_module(MODULES[name]).flash_attn_varlen_func
    if _unfit("flash", device, dtype):
        return None
    try:  # torch's own, of the same kernels
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # torch < 2.10
        return None
    return varlen_attn
