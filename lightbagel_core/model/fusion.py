"""Multimodal self-attention between the frozen VLM and the DiT: the part LightBagel adds (paper section 3.1).

What is special about it:
- und and gen tokens have projections of their own but share one attention, one query norm and one key norm;
- M-RoPE with Qwen's theta over the sample's one position stream;
- no timestep, no gate: plain RMSNorm in, a zero-initialised linear out, so at the start the DiT is untouched;
- with the VLM frozen, und tokens are only attended to: the und query and und output projections of the authors'
  checkpoints are dead weight and do not exist here (docs/model.md, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import FusionConfig
from .sequence import Rotary


class RMSNorm(nn.RMSNorm):
    """RMSNorm computed in float32 whatever the weights' and the input's dtype; returns the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return F.rms_norm(x.float(), self.normalized_shape, self.weight.float(), self.eps).type_as(x)


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Applies rotary tables [B, N, D] to x [B, N, H, D] in float32, rotate-half convention."""
    (cos, cos_high), (sin, sin_high) = (table[:, :, None].chunk(2, dim=-1) for table in rotary)
    low, high = x.float().chunk(2, dim=-1)
    if torch.is_grad_enabled():  # autograd and the compiler would add up slices of what is written in place
        turned = torch.cat([low * cos - high * sin, high * cos_high + low * sin_high], dim=-1)
    else:  # and without them it is quicker
        turned = x.float() * rotary[0][:, :, None]
        turned[..., : low.shape[-1]].addcmul_(high, sin, value=-1)
        turned[..., low.shape[-1] :].addcmul_(low, sin_high)
    return turned.type_as(x)


class Operations:
    """The layers a fusion stack is made of. A host with memory management of its own brings its own Linear, RMSNorm."""

    Linear = nn.Linear
    RMSNorm = RMSNorm


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # of q [B, N, H, D] over k, v [B, W, H, D]; like q
AttendJointly = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]  # see `MultimodalSelfAttention.joint`


class MultimodalSelfAttention(nn.Module):
    """One fusion layer."""

    def __init__(self, config: FusionConfig, operations: Any = Operations, **factory: Any) -> None:
        super().__init__()
        inner = config.heads * config.head_dim

        def linear(inputs: int, outputs: int, bias: bool = True) -> Any:
            return operations.Linear(inputs, outputs, bias=bias, **factory)

        def norm(size: int) -> Any:
            return operations.RMSNorm(size, eps=config.eps, **factory)

        self.heads = config.heads
        self.und_norm, self.gen_norm = norm(config.und_dim), norm(config.gen_dim)
        self.und_k, self.und_v = linear(config.und_dim, inner), linear(config.und_dim, inner)
        self.gen_q, self.gen_k, self.gen_v = (linear(config.gen_dim, inner) for _ in range(3))
        self.q_norm, self.k_norm = norm(config.head_dim), norm(config.head_dim)
        self.gen_out = linear(inner, config.gen_dim, bias=False)
        if operations is Operations:  # a host's layers may have no weights before they are loaded, and are not trained
            nn.init.zeros_(self.gen_out.weight)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def und_key_value(self, u: Tensor, rotary: Rotary, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values [B, U, H, D] of und states [B, U, und_dim], in `dtype`.

        The states are normalised in float32 first: Qwen's may be larger than half precision holds.
        """
        u = self.und_norm(u.float()).to(dtype)
        return rotate(self.k_norm(self._heads(self.und_k(u))), rotary), self._heads(self.und_v(u))

    def gen_query_key_value(self, g: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, N, H, D] of gen states [B, N, gen_dim]."""
        g = self.gen_norm(g)
        q, k, v = (self._heads(project(g)) for project in (self.gen_q, self.gen_k, self.gen_v))
        return rotate(self.q_norm(q), rotary), rotate(self.k_norm(k), rotary), v

    def update(self, attended: Tensor) -> Tensor:
        """What the gen stream is given, [B, N, gen_dim], of what its tokens attended to, [B, N, H, D]."""
        return self.gen_out(attended.flatten(2))

    def joint(self, g: Tensor, rotary: Rotary, u: Tensor, und_rotary: Rotary, attend: AttendJointly) -> Tensor:
        """What the gen states of all pictures of a batch are given by this layer, [B, M, gen_dim]; see `joint`.

        All that this layer computes of a batch is computed in this one call, and nothing is written in place.

        Args:
            g: [B, N, gen_dim]. u: [1, U, und_dim], the und states. rotary, und_rotary: their tables.
            attend: of queries, keys and values [B, N, H, D] and the und keys and values [1, U, H, D]: what M of the
                N tokens attended to, [B, M, H, D].
        """
        q, k, v = self.gen_query_key_value(g, rotary)
        return self.update(attend(q, k, v, *self.und_key_value(u, und_rotary, k.dtype)))

    def forward(self, g: Tensor, rotary: Rotary, keys: Tensor, values: Tensor, attend: Attend) -> Tensor:
        """The gen states [B, N, gen_dim] after this layer.

        Args:
            keys, values: [B, P + N, H, D]; the last N are the tokens' own and are written here, the others prefix.
        """
        q, k, v = self.gen_query_key_value(g, rotary)
        own = slice(keys.shape[1] - k.shape[1], None)
        keys[:, own], values[:, own] = k, v
        return g + self.update(attend(q.type_as(keys), keys, values))


class FusionStack(nn.Module):
    """All fusion layers and the learned context: everything LightBagel trains besides the DiT itself.

    Args:
        operations: the layers to build from, see `Operations`.
        factory: `device` and `dtype` of the weights.
    """

    def __init__(self, config: FusionConfig, operations: Any = Operations, **factory: Any) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            MultimodalSelfAttention(config, operations, **factory) for _ in range(config.layers)
        )
        self.context = nn.Parameter(torch.randn(config.context_len, config.context_dim, **factory) * 0.02)

    def __getitem__(self, index: int) -> MultimodalSelfAttention:
        layer = self.layers[index]
        assert isinstance(layer, MultimodalSelfAttention)
        return layer

    def compile_layers(self, *methods: str, **options: Any) -> None:
        """Has methods of all layers compiled when they first run, each once for all layers; options: torch.compile's.

        Attention stays outside: its keys are as many as the prompt is long.
        """
        for layer in self.layers:
            for name in methods:
                setattr(layer, name, torch.compile(getattr(layer, name), **options))
