"""What comes out of a stage: a checkpoint folder, of sharded weights too, a tensor at a time; LoRAs as files beside it.

What was trained comes from the module, under the names that files have. All else is taken as it is stored: weights that
stay frozen are in a module in another dtype, or in float8. LoRAs are merged into these, and not into the module's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..config import LightBagelConfig
from ..files import convert
from ..files.lora import ABOUT, ALPHA, DOWN, UP, written_name
from ..files.precision import FLOAT8, FLOAT8_KINDS, SCALE, is_scale
from ..files.tensor_files import Stored, Tensors
from ..files.writer import Entry, write_checkpoint
from ..files.writing import write_whole
from .adapters import is_adapter, plain


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA that was trained, float32 on the CPU: it adds alpha / rank * up @ down to a matrix [out, in].

    down: [rank, in]. up: [out, rank].
    """

    down: Tensor
    up: Tensor
    alpha: float

    def added_to(self, weight: Tensor) -> Tensor:
        """A matrix with it added, float32 and new, on the matrix's device."""
        down, up = (x.to(weight.device) for x in (self.down, self.up))
        return weight.float().addmm(up, down, alpha=self.alpha / len(down))


Trained = Mapping[str, Mapping[str, Adapter]]  # LoRAs that were trained: by component, by the weight that they add to


def lora_file(component: str) -> str:
    """What the file of a component's LoRA is called."""
    return f"{component}_lora.safetensors"


@dataclass(frozen=True)
class Part:
    """A component as it is written.

    own: tensors of its module, by their names in files. stored: the others. casts: whether these are written in the
    dtype of the own ones, as what an earlier stage made is; else as they are stored. merged: what is added to weights,
    by name. In sums that are written the dtype is that of the own ones, too.
    """

    own: Mapping[str, Tensor]
    stored: Tensors
    casts: bool = False
    merged: Mapping[str, Adapter] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        module: nn.Module,
        trained: Collection[Tensor],
        stored: Tensors,
        casts: bool = False,
        merged: Mapping[str, Adapter] | None = None,
    ) -> Part:
        """A component of which some tensors are trained; without stored ones it began fresh, and all are its own."""
        learned = {id(tensor) for tensor in trained}
        tensors = {plain(n): x for n, x in module.state_dict(keep_vars=True).items() if not is_adapter(n)}
        own = {name: tensor for name, tensor in tensors.items() if not stored or id(tensor) in learned}
        return cls(own, {n: x for n, x in stored.items() if n.removesuffix(SCALE) not in own}, casts, merged or {})

    def entries(self, dtype: torch.dtype) -> list[Entry]:
        """What is written of it."""
        own = [
            Entry(((name, dtype, tuple(tensor.shape)),), partial(whole, tensor, dtype, self.merged.get(name)))
            for name, tensor in self.own.items()
        ]
        stored = {
            name: replace(x, added=(*x.added, self.merged[name].added_to)) if name in self.merged else x
            for name, x in self.stored.items()
        }
        return own + [
            convert.entry(name, stored, self._kind(stored[name], dtype))
            for name in stored
            if not is_scale(name, stored)
        ]

    def _kind(self, stored: Stored, dtype: torch.dtype) -> torch.dtype:
        """The dtype in which a stored tensor is written. What is float8 stays so, but for sums in float32: a later
        stage goes on from these, and float8 would lose most of what was added.
        """
        if stored.dtype in FLOAT8_KINDS:
            if stored.added:
                return dtype if dtype == torch.float32 else FLOAT8
            return stored.dtype
        return dtype if self.casts or stored.added else stored.dtype


def whole(tensor: Tensor, dtype: torch.dtype, added: Adapter | None = None) -> Iterator[Tensor]:
    """The numbers of a tensor, flat, on the CPU; of a sharded one put together, for which every process must ask."""
    tensor = tensor.detach()
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    yield (full if added is None else added.added_to(full)).to("cpu", dtype).flatten()


def write_model(
    folder: Path,
    config: LightBagelConfig,
    parts: Mapping[str, Part],
    tokenizer: Any,
    dtype: torch.dtype,
    first: bool,
) -> None:
    """Writes a checkpoint folder; every process must call it, the first one writes.

    Args:
        parts: by component; none: a folder that says where LoRAs come from.

    Raises:
        ValueError: as `write_checkpoint`.
    """
    if first:
        write_checkpoint(folder, {name: part.entries(dtype) for name, part in parts.items()}, config, tokenizer)
        return
    for _, part in sorted(parts.items()):  # in the order in which the first process asks
        for tensor in part.own.values():
            for _ in whole(tensor, dtype):
                pass


def trained_loras(trained: Mapping[str, Tensor], alphas: Mapping[str, float]) -> Trained:
    """The LoRAs among what was trained; every process must ask for them.

    Args:
        trained: by component and name: "fusion.layers.0.gen_q.lora_A.weight". alphas: by component.
    """
    halves: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in trained.items():
        if is_adapter(name):
            component, _, rest = name.partition(".")
            layer, _, half = rest.rpartition(".lora_")
            held = next(whole(tensor, torch.float32)).view(tensor.shape)
            halves.setdefault((component, f"{layer}.weight"), {})[f"lora_{half}"] = held
    found: dict[str, dict[str, Adapter]] = {}
    for (component, weight), pair in halves.items():
        found.setdefault(component, {})[weight] = Adapter(pair[DOWN], pair[UP], alphas[component])
    return found


def write_loras(folder: Path, loras: Trained, about: Mapping[str, Mapping[str, Any]], dtype: torch.dtype) -> None:
    """Writes a file for each component's LoRA, under the names that ComfyUI's own loader takes.

    Args:
        about: by component, what its file says of it; see `files.lora`.

    Raises:
        ValueError: one could not be written.
    """
    for component, of in loras.items():
        held: dict[str, Tensor] = {}
        for weight, lora in of.items():
            layer = written_name(component, weight)
            held[f"{layer}.{DOWN}"], held[f"{layer}.{UP}"] = lora.down.to(dtype), lora.up.to(dtype)
            held[f"{layer}.{ALPHA}"] = torch.tensor(float(lora.alpha))
        content = save(held, {"format": "pt", ABOUT: json.dumps(about[component])})
        write_whole(folder / lora_file(component), content, folder)
