"""The generation branch: diffusers' Wan transformer, its blocks as they ship, taken one at a time.

Single frames only. A latent is [C, h, w], normalised; patches of p x p latents are one token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor, WanTransformer3DModel
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention
from .sequence import Rotary

TABLES = 16  # sizes whose rotary tables are kept


@dataclass(eq=False)
class SharedTime:
    """A flow time [1] of several passes; what the DiT makes of it is kept with it, and lives no longer."""

    value: Tensor
    made: tuple[Tensor, Tensor] | None = None

    def embedded(self, time: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        if self.made is None:
            self.made = time(self.value)
        return self.made


class KeyValueProcessor(WanAttnProcessor):
    """diffusers' processor for cross-attention whose keys and values serve every row: they are computed once.

    They come as `encoder_hidden_states`: computed already, [2, 1, L, H, D], or as states [1, L, dim]. States of each
    row, [B, L, dim], go their usual way.
    """

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        states = encoder_hidden_states
        if states is None or (states.ndim == 3 and len(states) == len(hidden_states) > 1):
            return super().__call__(attn, hidden_states, states, *args, **kwargs)
        if states.ndim == 3:
            states = cross_key_value(attn, states)
        q = attn.norm_q(attn.to_q(hidden_states)).type_as(states).unflatten(2, (attn.heads, -1))
        row = q.flatten(0, 1)[None]  # all rows' queries in one: keys and values need not be repeated for each
        out = dispatch_attention_fn(row, *states.unbind(), backend=self._attention_backend)
        out = out.unflatten(1, q.shape[:2])[0].flatten(2).type_as(q)
        for layer in attn.to_out:
            out = layer(out)
        return out


def cross_key_value(attn: Any, states: Tensor) -> Tensor:
    """A block's cross-attention keys and values [2, B, L, H, D] of context states [B, L, dim].

    Autocast may leave what was normalised in float32; attention kernels want all of one dtype.
    """
    v = attn.to_v(states)
    pair = torch.stack([attn.norm_k(attn.to_k(states)).type_as(v), v])
    return pair.unflatten(-1, (attn.heads, -1))


@dataclass(frozen=True, eq=False)
class PackedRotary:
    """Rotary tables of pictures of several sizes whose tokens stand in one row, each picture's after the other's.

    cos, sin: as Wan's own, [1, N, 1, D]. sizes: the tokens of each picture, N together.
    """

    cos: Tensor
    sin: Tensor
    sizes: tuple[int, ...]


class PackedProcessor(WanAttnProcessor):
    """diffusers' processor for self-attention, which with a `PackedRotary` lets each picture attend to itself alone.

    Linear layers then see one row of all tokens, without padding; neighbours of one size attend in one call.

    In training it is used for rows of one size too: diffusers' own writes every other number in place, which autograd
    and the compiler make a copy of, and hands queries and keys to the kernel in whatever dtype the norms give.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        packed = isinstance(rotary_emb, PackedRotary)
        if not packed and not _in_training(hidden_states):
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        v = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1))
        normed = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(hidden_states))
        cos, sin = (rotary_emb.cos, rotary_emb.sin) if packed else rotary_emb
        q, k = (turned(x.unflatten(2, (attn.heads, -1)), cos, sin).type_as(v) for x in normed)
        if packed:
            out = each_alone(q, k, v, rotary_emb, self._attention_backend)
        else:
            out = dispatch_attention_fn(q, k, v, backend=self._attention_backend)
        out = out.flatten(2).type_as(q)
        for layer in attn.to_out:
            out = layer(out)
        return out


def _in_training(x: Tensor) -> bool:
    autocast = x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)  # which the meta device knows not
    return torch.is_grad_enabled() or autocast


@torch.compiler.disable  # type: ignore[untyped-decorator] # it would be compiled anew for every other row of sizes
def each_alone(q: Tensor, k: Tensor, v: Tensor, pictures: PackedRotary, backend: Any) -> Tensor:
    """What each picture attended to of itself, of all in one row, [1, N, H, D]."""
    done, start = [], 0
    for size, neighbours in groupby(pictures.sizes):
        count = len(list(neighbours))
        at = slice(start, start + count * size)
        rows = (x[0, at].unflatten(0, (count, size)) for x in (q, k, v))
        done.append(dispatch_attention_fn(*rows, backend=backend).flatten(0, 1))
        start = at.stop
    return torch.cat(done)[None]


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, N, H, D] turned by Wan's rotary tables [1, N, 1, D]: neighbouring numbers are a pair."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).type_as(x)


class Generation(nn.Module):
    """A Wan DiT with its forward pass laid open, so that a fusion layer can follow each block (see `forward.Dit`)."""

    def __init__(self, dit: WanTransformer3DModel) -> None:
        super().__init__()
        self.dit = dit
        self._rotary: dict[Any, Rotary] = {}
        for block in self.blocks:
            attn1: Any = block.attn1
            attn2: Any = block.attn2
            attn1.set_processor(PackedProcessor())
            attn2.set_processor(KeyValueProcessor())

    def forward(
        self,
        latents: Tensor,
        t: Tensor | SharedTime,
        learned: list[Tensor],
        after_block: Callable[[Tensor, int], Tensor | None],
    ) -> Tensor | None:
        """The velocity [B, C, h, w], float32; None where `after_block` stopped the pass.

        Args:
            latents: [B, C, h, w].
            t: flow times in 0..1, [B], or one that several passes share.
            learned: from `learned_context`.
            after_block: of tokens [B, N, dim] and the block's number the tokens that go on; None stops there.
        """
        grid = self.grid(*latents.shape[-2:])
        tokens = self.embed(latents)
        temb, modulation = t.embedded(self.time) if isinstance(t, SharedTime) else self.time(t)
        rotary = self.rotary(grid, latents.device)
        for i, block in enumerate(self.blocks):
            goes_on = after_block(block(tokens, learned[i], modulation, rotary), i)
            if goes_on is None:
                return None
            tokens = goes_on
        return self.head(tokens, temb, grid)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.dit.blocks

    def use_attention(self, attention: Attention) -> None:
        """Has the blocks' own attention computed by the same kernels as the fusion's."""
        for processor in self.dit.attn_processors.values():  # its set_attention_backend would change every other model
            processor._attention_backend = attention.backend

    @property
    def patch(self) -> int:
        return int(self.dit.config.patch_size[1])

    @property
    def dtype(self) -> torch.dtype:
        """What the tokens are computed in."""
        dtype: torch.dtype = self.dit.patch_embedding.weight.dtype
        return dtype

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Token rows and columns of a latent of height x width.

        Raises:
            ValueError: the patch does not divide the latent.
        """
        if height % self.patch or width % self.patch or min(height, width) < self.patch:
            raise ValueError(f"a latent of {height}x{width} does not divide into patches of {self.patch}x{self.patch}")
        return height // self.patch, width // self.patch

    def embed(self, latents: Tensor) -> Tensor:
        """Tokens [B, N, dim] of latents [B, C, h, w]."""
        self.grid(*latents.shape[-2:])
        with torch.autocast(latents.device.type, enabled=False):  # in training the residual stream stays float32
            tokens = self.dit.patch_embedding(latents[:, :, None].to(self.dtype))
        return tokens.flatten(2).transpose(1, 2).contiguous()

    def rotary(self, grid: tuple[int, int], device: torch.device) -> Rotary:
        """Wan's own rotary tables for an image of (rows, cols) tokens; they depend on nothing else, and are kept."""
        at = grid, device, torch.is_inference_mode_enabled()  # tensors of that mode are of no use outside it
        if at not in self._rotary:
            if len(self._rotary) == TABLES:
                self._rotary.clear()
            sides = (side * self.patch for side in grid)
            cos, sin = self.dit.rope(torch.empty(1, 1, 1, *sides, device=device))
            self._rotary[at] = cos, sin
        return self._rotary[at]

    def time(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Time embedding [B, dim] and block modulation [B, 6, dim] of flow times t [B] in 0..1, float32."""
        embedder = self.dit.condition_embedder
        with torch.autocast(t.device.type, enabled=False):
            sinusoid = embedder.timesteps_proj(t.float() * 1000)
            temb = embedder.time_embedder(sinusoid.to(embedder.time_proj.weight.dtype))
            modulation = embedder.time_proj(embedder.act_fn(temb))
        return temb, modulation.unflatten(1, (6, -1))

    def context_states(self, context: Tensor) -> Tensor:
        """The learned context [L, text_dim] as the blocks' cross-attention reads it, [1, L, dim]."""
        states: Tensor = self.dit.condition_embedder.text_embedder(context[None])
        return states

    def learned_context(self, context: Tensor) -> list[Tensor]:
        """Each block's cross-attention keys and values of the learned context [L, text_dim]: [2, 1, L, H, D].

        They depend on nothing but weights: one for all samples, steps and runs.
        """
        states = self.context_states(context)
        found = []
        for block in self.blocks:
            found.append(cross_key_value(block.attn2, states))
        return found

    def context_weights(self) -> list[Tensor]:
        """All weights that `learned_context` reads."""
        modules = [self.dit.condition_embedder.text_embedder]
        for block in self.blocks:
            attn: Any = block.attn2
            modules += [attn.to_k, attn.to_v, attn.norm_k]
        return [weight for module in modules for weight in module.parameters()]

    @property
    def adapted(self) -> bool:
        """Whether adapters act on the DiT."""
        return bool(getattr(self.dit, "peft_config", None))

    def head(self, tokens: Tensor, temb: Tensor, grid: tuple[int, int]) -> Tensor:
        """Velocity [B, C, h, w], float32, of the last block's tokens."""
        dit = self.dit
        with torch.autocast(tokens.device.type, enabled=False):
            shift, scale = (dit.scale_shift_table + temb[:, None]).chunk(2, dim=1)
            hidden = dit.norm_out(tokens.float()) * (1 + scale) + shift
            patches = dit.proj_out(hidden.to(dit.proj_out.weight.dtype)).float()
        p = self.patch
        return rearrange(patches, "b (r c) (p q k) -> b k (r p) (c q)", r=grid[0], c=grid[1], p=p, q=p)


class LearnedContext:
    """What the DiT makes of the learned context (see `Generation.learned_context`), computed once for the weights as
    they are.

    Adapters (LoRA) may change what their layers compute without a trace in any weight: with them it is computed anew.
    Changing a weight through `.data` is not noticed: call `forget` afterwards.
    """

    def __init__(self, gen: Generation, context: nn.Module) -> None:
        """`context`: the module whose parameter `context` is the learned one."""
        self.gen, self.owner = gen, context
        self._made: tuple[Any, list[Tensor], list[Tensor]] | None = None

    def get(self, streamed: bool = False) -> list[Tensor]:
        """`streamed`: weights come to the device for one use each, and are other tensors at every use."""
        context: Any = self.owner.context
        weights = [context, *self.gen.context_weights()]
        # Tensors made in inference mode count no versions; nor can they be changed outside it.
        stamp = [] if streamed else [(id(w), None if w.is_inference() else w._version) for w in weights]
        if self._made is None or self._made[0] != stamp or self.gen.adapted:
            # The weights are held, so that nothing else can come to have their ids.
            self._made = stamp, weights, self.gen.learned_context(context.to(self.gen.dtype))
        return self._made[2]

    def forget(self) -> None:
        self._made = None
