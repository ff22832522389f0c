"""ComfyUI's own Wan as the one callable that the core asks for (`forward.Dit`), and ComfyUI's attention.

The fusion layers hang on the replacement hook of each block ("double_block", which ComfyUI had for Wan before it had
the hook after a block), together with whatever other nodes hang there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.wan.model import WanModel
from torch import Tensor

from ...lightbagel_core.model.attention import Attention
from ...lightbagel_core.model.forward import AfterBlock
from ...lightbagel_core.model.generation import SharedTime

PATCHES = "patches_replace"


class Wan:
    """Wan within one forward of a run."""

    def __init__(self, executor: Any, options: dict[str, Any], compute: torch.dtype) -> None:
        """`options`: the forward's transformer_options, its own dictionary, in which Wan says which block it is at.
        `compute`: what the fusion stack computes in.
        """
        self.executor, self.options, self.compute = executor, options, compute
        self.model = executor.class_obj

    def for_target(self, clip_fea: Any, time_dim_concat: Any, **others: Any) -> Any:
        """The run's own pass, with all wrappers and patches."""

        def dit(latents: Tensor, t: Tensor, learned: Callable[[Tensor], Tensor], after_block: AfterBlock) -> Tensor:
            self.options[PATCHES] = self._followed(after_block, self.options.get(PATCHES, {}))
            # EasyCache adds to what it is given; in float32 that would be the sampler's latents.
            x = latents[:, :, None].clone()
            out: Tensor = self.executor(x, t, learned(x), clip_fea, time_dim_concat, self.options, **others)
            return out[:, :, 0]

        return dit

    def for_sources(self, like: Tensor) -> Any:
        """A pass for source images, in the dtype of `like`: past all wrappers, without the run's other patches."""
        kept = {k: v for k, v in self.options.items() if k not in ("patches", "wrappers", "callbacks")}

        def dit(latents: Tensor, t: SharedTime, learned: Callable[[Tensor], Tensor], after_block: AfterBlock) -> Tensor:
            x = latents[:, :, None].to(like)
            options = {**kept, PATCHES: self._followed(after_block, {})}
            out: Tensor = self.executor.original(x, t.value.expand(len(x)), learned(x), None, None, options)
            return out

        return dit

    def _followed(self, after_block: AfterBlock, others: dict[str, Any]) -> dict[str, Any]:
        """Block replacements `others` with `after_block` after each block; the blocks after the one where it stops are
        left out.
        """
        blocks = others.get("dit", {})
        stopped: list[int] = []

        def followed(i: int) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
            other = blocks.get(("double_block", i))

            def run(args: dict[str, Any], extra: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
                if stopped:
                    return {"img": args["img"]}
                out = extra["original_block"](args) if other is None else other(args, extra, **kwargs)
                tokens = out["img"].to(self.compute)
                goes_on = after_block(tokens, i)
                if goes_on is None:
                    stopped.append(i)
                return out if goes_on is None or goes_on is tokens else {**out, "img": goes_on.to(out["img"].dtype)}

            return run

        every = {("double_block", i): followed(i) for i in range(len(self.model.blocks))}
        return {**others, "dit": {**blocks, **every}}


def check_wan(model: Any) -> None:
    """Raises ValueError when another node has put a model of its own in the place of ComfyUI's Wan."""
    compiled = type(model).__module__.startswith("torch.")  # by torch.compile, with the real one inside
    if not isinstance(model, WanModel) and not compiled:
        raise ValueError(
            f"another node on this MODEL has put {type(model).__name__} of its own in the place of ComfyUI's Wan, "
            "which never calls the hooks by which LightBagel's fusion stack listens. Take that node away; RES4LYF's "
            "ReWan nodes are such."
        )


def attention(options: dict[str, Any]) -> Attention:
    """ComfyUI's attention, whichever the person chose, and no other."""
    return Attention(partial(_attend, options=options), few=None)


def _attend(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
    """q [B, N, H, D], k and v [B, W, H, D]."""
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    out = optimized_attention(
        *heads_first,
        heads=q.shape[2],
        skip_reshape=True,
        skip_output_reshape=True,
        transformer_options=options,
    )
    return out.transpose(1, 2)
