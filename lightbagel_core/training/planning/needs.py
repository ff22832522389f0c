"""What a process holds on its device while it trains, in bytes: weights and what belongs to them, from their shapes.

What lives beside them is in `activations`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from ...files.precision import dtypes
from ...files.tensor_files import Tensors
from .. import eight_bit
from ..adapters import targeted
from ..precisions import BASES, trained_precision
from ..stages import ALONE, READERS, Stage

UNIT = re.compile(r"(?:^|\.)(blocks|layers)\.(\d+)\.")
NEEDED = {"drawing": ("generation", "fusion")} | {recipe: (component,) for recipe, component in ALONE.items()}
UNREAD = ("lm_head.weight", "model.language_model.norm.weight")  # what of a VLM no drawing reads


@dataclass(frozen=True)
class Weight:
    """One tensor of a process: where it belongs, its shape, and the dtype it is kept in."""

    component: str
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    trained: bool

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize + (4 if self.dtype == torch.float8_e4m3fn else 0)

    @property
    def part(self) -> str:
        """What a config calls it: the learned context is named apart from the fusion layers."""
        return "context" if (self.component, self.name) == ("fusion", "context") else self.component

    @property
    def unit(self) -> str | None:
        """The block or layer it belongs to; None: it is no part of one."""
        found = UNIT.search(self.name)
        inside = self.component in ("generation", "fusion") or ".layers." in f".{self.name}"
        return f"{self.component} {found[2]}" if found and inside else None

    @property
    def matrix(self) -> bool:
        """Whether it is a linear layer's."""
        return len(self.shape) == 2 and self.name.endswith(".weight")


def on_device(stage: Stage) -> tuple[str, ...]:
    """The components that are on the device during a step."""
    live = READERS if stage.recipe == "drawing" and stage.cache.states == "live" else ()
    return NEEDED[stage.recipe] + live


def weights(stage: Stage, components: Mapping[str, Tensors], names: Iterable[str] | None = None) -> list[Weight]:
    """All tensors of some components, as a stage keeps them; default: of those on the device during a step."""
    frozen, trained = BASES[stage.base], trained_precision(stage)
    found = []
    for component in on_device(stage) if names is None else names:
        tensors = components[component]
        kept, moved = dtypes(component, tensors, frozen), dtypes(component, tensors, trained)
        for name, tensor in tensors.items():
            own = is_trained(stage, component, name)
            found.append(Weight(component, name, tensor.shape, (moved if own else kept)[name], own))
        found += adapters(stage, component, tensors)
    return found


def is_trained(stage: Stage, component: str, name: str) -> bool:
    """Whether a stage trains a tensor itself, and not an adapter of it."""
    if stage.recipe == "drawing" and component == "understanding" and name in UNREAD:
        return False
    return ("context" if (component, name) == ("fusion", "context") else component) in stage.train


def adapters(stage: Stage, component: str, tensors: Tensors) -> list[Weight]:
    """The tensors of a component's LoRA.

    Raises:
        ValueError: as `targeted`.
    """
    lora = {"generation": stage.lora.generation, "fusion": stage.lora.fusion}.get(component)
    if lora is None or not lora.rank:
        return []
    dtype = trained_precision(stage).compute
    linear = {
        name.removesuffix(".weight"): tensor.shape
        for name, tensor in tensors.items()
        if name.endswith(".weight") and len(tensor.shape) == 2
    }
    found = []
    for layer in targeted(list(linear), lora, component):
        outputs, inputs = linear[layer]
        for end, shape in {"A": (lora.rank, inputs), "B": (outputs, lora.rank)}.items():
            found.append(Weight(component, f"{layer}.lora_{end}.weight", shape, dtype, True))
    return found


def moments(stage: Stage, weight: Weight) -> int:
    """Bytes that the optimiser keeps of one trained tensor."""
    if stage.optimiser.name == "sgd":
        return 0
    if stage.optimiser.name == "adamw":
        return 2 * weight.bytes
    size = eight_bit.block(torch.Size(weight.shape))
    if not size:
        return 8 * weight.count  # what is too small or too narrow for blocks stays float32
    return 2 * (weight.count + 4 * weight.count // size)


@dataclass(frozen=True)
class Held:
    """Bytes of weights and of what belongs to them, on one process.

    unit: what a process gathers of others' weights for the units it works on, and what belongs to no unit.
    """

    frozen: int
    weights: int
    gradients: int
    optimiser: int
    ema: int
    unit: int


def is_whole(stage: Stage, component: str) -> bool:
    """Whether every process has all of a component however many share the weights: what only reads examples is no part
    of what the engine shares out.
    """
    return stage.recipe == "drawing" and component in READERS and component not in stage.train


def held(stage: Stage, weights: Iterable[Weight], shard: int) -> Held:
    """What one of `shard` processes that share the weights holds."""
    weights = list(weights)
    apart = sum(w.bytes for w in weights if is_whole(stage, w.component))
    trained = [w for w in weights if w.trained]
    own = sum(w.bytes for w in trained)
    frozen = sum(w.bytes for w in weights if not w.trained) - apart
    return Held(
        frozen // shard + apart,
        own // shard,
        own // shard,
        sum(moments(stage, w) for w in trained) // shard,
        4 * sum(w.count for w in trained) // shard if stage.ema.decay else 0,
        gathered(stage, weights) if shard > 1 else 0,
    )


def gathered(stage: Stage, weights: Iterable[Weight]) -> int:
    """Bytes of others' weights that a process has at most: the unit at work and the next, the gradient of one before it
    is shared out (in the dtype of the weights and, on its way, in float32), and what is no unit, for the whole pass.
    """
    sizes: dict[str, int] = {}
    gradients: dict[str, int] = {}
    rest = 0
    for w in weights:
        if is_whole(stage, w.component):
            continue
        mixed = stage.precision == "bfloat16-mixed" and w.dtype == torch.float32
        size = 2 * w.count if mixed else w.bytes
        if w.unit is None:
            rest += w.bytes
            continue
        sizes[w.unit] = sizes.get(w.unit, 0) + size
        gradients[w.unit] = gradients.get(w.unit, 0) + (size + 4 * w.count if w.trained else 0)
    return rest + 2 * max(sizes.values(), default=0) + max(gradients.values(), default=0)
