"""What a run does otherwise while ComfyUI trains a LoRA on the MODEL (its node TrainLoraNode).

Each step then has a backward pass of its own, in which it may be computed a second time (gradient checkpointing): so
nothing is kept from step to step, see `RunCache.run`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from .conditioning import KEY, Rows


def in_training() -> bool:
    """Whether ComfyUI trains just now."""
    return bool(comfy.model_management.in_training)


@contextmanager
def trainable(module: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through a module whose weights ComfyUI loaded in inference mode.

    autograd keeps no tensor that was made in inference mode. Others stand in for them meanwhile, in the same memory.
    """
    made = []
    for inner in module.modules():
        for name, weight in inner.named_parameters(recurse=False):
            if weight.is_inference():
                made.append((inner, name, weight))
                inner.register_parameter(name, nn.Parameter(in_same_memory(weight), requires_grad=False))
    try:
        yield
    finally:
        for inner, name, weight in made:
            inner.register_parameter(name, weight)


def in_same_memory(tensor: Tensor) -> Tensor:
    """A tensor that autograd may keep, in the memory of one that it may not."""
    made = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return made.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())


def one_size(sampler: Any) -> None:
    """Raises ValueError where TrainLoraNode has latents of several sizes, or of its bucket mode: it hands them to the
    model as the VAE gave them, not normalised as latents of one size are.
    """
    if any(getattr(sampler, name, None) is not None for name in ("real_dataset", "bucket_latents")):
        raise ValueError(
            "Train LoRA does not normalise latents of several sizes, nor those of its bucket_mode, so that the LoRA "
            "would learn wrong colours. Give it pictures of one size (Upscale Image with crop), and leave bucket_mode "
            "off."
        )


def each_its_own(conds: list[dict[str, Any]], pictures: int) -> list[dict[str, Any]]:
    """The conditions of a batch as one, of which each picture has its own.

    TrainLoraNode lists as many as the batch has pictures. To ComfyUI's sampling each of them is of all pictures, and a
    picture is drawn as the mean of what they say.
    """
    if not len(conds) == pictures > 1:
        return conds
    rows = (cond["model_conds"][KEY].process_cond(pictures).cond[i] for i, cond in enumerate(conds))
    return [{**conds[0], "model_conds": {**conds[0]["model_conds"], KEY: Rows(tuple(rows))}}]
