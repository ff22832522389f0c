"""What a run needs on a graphics card: weights from the model's shapes, and by arithmetic what lives beside them.

`benchmarks/memory.py` holds these figures to the real code run on torch's meta device and, where there is one, on a
CUDA device. They are those of attention kernels that store no scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..config import LightBagelConfig
from ..files.components import COMPONENTS
from ..files.precision import FLOAT8_KINDS, MODES, Precision, dtypes
from ..files.tensor_files import Stored, Tensors
from ..images import size_by_rule
from .offload import Offload

CARDS = (8, 12, 16, 24)  # GB
MARGIN = 0.8e9  # bytes for the driver's context, the screen and the allocator's gaps
TEXT = 64  # tokens of a prompt
VAE_MAPS = 11  # feature maps of the largest size that live at once in the VAE's decoder
WAYS: tuple[tuple[str, Offload | None], ...] = (  # the best first
    ("bfloat16", None),
    ("bfloat16", "parts"),
    ("float8", None),
    ("float8", "parts"),
    ("float8", "layers"),
)


@dataclass(frozen=True)
class Stage:
    """A stretch of a run. Bytes of the weights it uses, of the largest one, and of all else that lives at its peak."""

    name: str
    weights: int
    largest: int
    work: int

    def need(self, streamed: bool) -> int:
        return (self.largest if streamed else self.weights) + self.work


@dataclass(frozen=True)
class Work:
    """What is drawn. sources: pictures that are edited; branches: of guidance, of which the last sees no picture."""

    width: int = 1024
    height: int = 1024
    sources: int = 1
    branches: int = 3


def tensors_of(module: Any, component: str) -> Tensors:
    """A module's weights as if they were stored, for planning without files."""
    return {
        name: Stored(Path(component), name, tuple(t.shape), torch.bfloat16, 0, tuple(t.shape))
        for name, t in module.state_dict().items()
    }


def weight_bytes(component: str, tensors: Tensors, precision: Precision) -> tuple[int, int]:
    """(all, the largest one) of a component's weights, in bytes, when the model is opened."""
    kinds = dtypes(component, tensors, precision)
    sizes = [math.prod(tensors[name].shape) * dtype.itemsize for name, dtype in kinds.items()]
    scales = sum(4 for dtype in kinds.values() if dtype in FLOAT8_KINDS)
    return sum(sizes) + scales, max(sizes)


def stages(
    config: LightBagelConfig, components: Mapping[str, Tensors], precision: Precision, work: Work
) -> list[Stage]:
    """A run's stages in order; it ends with the decoded picture."""
    held = {
        name: weight_bytes(name, components[name], precision) if name in components else (0, 0) for name in COMPONENTS
    }
    size, float8 = precision.compute.itemsize, precision.float8 is not False
    text, fusion, gen = config.understanding["text_config"], config.fusion, config.generation
    inner = fusion.heads * fusion.head_dim
    tokens = work.width * work.height // config.vae_image.stride**2
    vit = size_by_rule(work.width, work.height, config.vit_image)
    seen = work.sources * (vit[0] * vit[1] // config.vit_image.stride**2 + 4)
    und = seen + TEXT + 2  # of the branch that sees most
    every = seen + (TEXT + 2) * (work.branches - 1) + 4  # of all branches, what they share once; one has no words
    widened = {  # a float8 matrix is widened while it is used
        "und": text["hidden_size"] * text["intermediate_size"] * size if float8 else 0,
        "gen": fusion.gen_dim * gen["ffn_dim"] * size if float8 else 0,
    }
    rows = work.branches
    states = fusion.und_layers * every * fusion.und_dim * size
    reading = every * (3 * text["intermediate_size"] + 8 * text["hidden_size"]) * size + widened["und"]
    learned = 2 * gen["num_layers"] * fusion.context_len * fusion.gen_dim * size
    buffers = 2 * fusion.layers * rows * (und + (work.sources + 1) * tokens) * inner * size
    step = (
        max(rows, work.sources) * tokens * (2 * gen["ffn_dim"] * size + 4 * fusion.gen_dim * (4 + size))
        + widened["gen"]
    )
    decoder = config.vae.get("decoder_base_dim") or config.vae["base_dim"]
    shrink = config.vae.get("patch_size") or 1
    frame = work.width // shrink * (work.height // shrink) * decoder * 4
    both = held["generation"][0] + held["fusion"][0]
    largest = max(held["generation"][1], held["fusion"][1])
    pictures = Stage("VAE", *held["vae"], VAE_MAPS * frame)
    reader = Stage("understanding", *held["understanding"], states + reading)
    drawing = Stage("DiT and fusion", both, largest, states + learned + buffers + step)
    return [pictures, reader, drawing, replace(pictures, work=pictures.work + learned)]


def needed(stages: list[Stage], offload: Offload | None) -> int:
    """The most bytes that a run needs at once."""
    if offload is None:
        distinct = {stage.name: stage.weights for stage in stages}
        return sum(distinct.values()) + max(stage.work for stage in stages)
    return max(stage.need(offload == "layers") for stage in stages)


def best_way(
    config: LightBagelConfig, components: Mapping[str, Tensors], card: float, work: Work
) -> tuple[str, Offload | None, int] | None:
    """The best dtype and offload with which a run fits a card of so many bytes, and its need; None: not at all."""
    for mode, offload in WAYS:
        precision = Precision.of(MODES[mode], torch.device("cpu"))
        need = needed(stages(config, components, precision, work), offload)
        if need + MARGIN <= card:
            return mode, offload, need
    return None


def offload_for(
    config: LightBagelConfig, components: Mapping[str, Tensors], precision: Precision, card: float, work: Work
) -> Offload | None:
    """The least offloading with which a run fits a card of so many bytes; "layers" where none does."""
    planned = stages(config, components, precision, work)
    ways: tuple[Offload | None, ...] = (None, "parts")
    return next((way for way in ways if needed(planned, way) + MARGIN <= card), "layers")
