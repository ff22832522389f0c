"""The generation branch: diffusers' Wan transformer, its blocks as they ship, taken one at a time.

Single frames only. A latent is [C, h, w], normalised; patches of p x p latents are one token.
"""

from __future__ import annotations

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from einops import rearrange
from torch import Tensor, nn

from .sequence import Rotary


def weight_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """A DiT tensor's dtype when the model runs in `dtype`: time embedding, modulation, norms, head stay float32."""
    inside = (".attn1.", ".attn2.", ".ffn.", "patch_embedding.", "text_embedder.")
    return dtype if any(part in name for part in inside) else torch.float32


class Generation(nn.Module):
    """A Wan DiT with its forward pass laid open, so that the fusion can speak after every block."""

    def __init__(self, dit: WanTransformer3DModel) -> None:
        super().__init__()
        self.dit = dit

    @property
    def blocks(self) -> nn.ModuleList:
        return self.dit.blocks

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

    def embed(self, latents: Tensor) -> tuple[Tensor, Rotary]:
        """Tokens [B, N, dim] of latents [B, C, h, w], and Wan's own rotary tables for that size."""
        self.grid(*latents.shape[-2:])
        frames = latents[:, :, None].to(self.dtype)
        with torch.autocast(latents.device.type, enabled=False):  # in training the residual stream stays float32
            tokens = self.dit.patch_embedding(frames).flatten(2).transpose(1, 2).contiguous()
        return tokens, self.dit.rope(frames)

    def time(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Time embedding [B, dim] and block modulation [B, 6, dim] of flow times t [B] in 0..1, float32."""
        embedder = self.dit.condition_embedder
        with torch.autocast(t.device.type, enabled=False):
            sinusoid = embedder.timesteps_proj(t.float() * 1000)
            temb = embedder.time_embedder(sinusoid.to(embedder.time_proj.weight.dtype))
            modulation = embedder.time_proj(embedder.act_fn(temb))
        return temb, modulation.unflatten(1, (6, -1))

    def learned_context(self, context: Tensor) -> Tensor:
        """Cross-attention states [1, L, dim] of the learned context [L, text_dim]; one for all samples and steps."""
        return self.dit.condition_embedder.text_embedder(context[None])

    def head(self, tokens: Tensor, temb: Tensor, grid: tuple[int, int]) -> Tensor:
        """Velocity [B, C, h, w], float32, of the last block's tokens."""
        dit = self.dit
        with torch.autocast(tokens.device.type, enabled=False):
            shift, scale = (dit.scale_shift_table + temb[:, None]).chunk(2, dim=1)
            hidden = dit.norm_out(tokens.float()) * (1 + scale) + shift
            patches = dit.proj_out(hidden.to(dit.proj_out.weight.dtype)).float()
        p = self.patch
        return rearrange(patches, "b (r c) (p q k) -> b k (r p) (c q)", r=grid[0], c=grid[1], p=p, q=p)
