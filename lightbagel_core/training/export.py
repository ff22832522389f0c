"""What comes out of a stage: a checkpoint folder, of sharded weights too, a tensor at a time; adapters in a file.

What was trained comes from the module, under the names that files have. All else is taken as it is stored: weights that
stay frozen are in a module in another dtype, or in float8.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..config import LightBagelConfig
from ..evaluation.writing import write_whole
from ..files import convert
from ..files.precision import SCALE
from ..files.tensor_files import Stored, Tensors, read
from ..files.writer import Entry, write_checkpoint
from .adapters import is_adapter, plain

LORA = "lora.safetensors"  # adapters by component and name
ABOUT = "lora"  # in its metadata: rank, alpha and targets by component, as JSON


@dataclass(frozen=True)
class Part:
    """A component as it is written.

    own: tensors of its module, by their names in files. stored: the others. casts: whether these are written in the
    dtype of the own ones, as what an earlier stage made is; else as they are stored.
    """

    own: Mapping[str, Tensor]
    stored: Tensors
    casts: bool = False

    @classmethod
    def of(cls, module: nn.Module, trained: Collection[Tensor], stored: Tensors, casts: bool = False) -> Part:
        """A component of which some tensors are trained; without stored ones it began fresh, and all are its own."""
        learned = {id(tensor) for tensor in trained}
        tensors = {plain(n): x for n, x in module.state_dict(keep_vars=True).items() if not is_adapter(n)}
        own = {name: tensor for name, tensor in tensors.items() if not stored or id(tensor) in learned}
        return cls(own, {n: x for n, x in stored.items() if n.removesuffix(SCALE) not in own}, casts)

    def entries(self, component: str, dtype: torch.dtype) -> list[Entry]:
        """What is written of it."""
        made = [
            Entry(((name, dtype, tuple(tensor.shape)),), partial(whole, tensor, dtype))
            for name, tensor in self.own.items()
        ]
        if self.casts:
            return made + [_entry(stored, name, dtype) for name, stored in self.stored.items()]
        return made + convert.entries(component, self.stored, None)


def whole(tensor: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """The numbers of a tensor, flat, on the CPU; of a sharded one put together, for which every process must ask."""
    tensor = tensor.detach()
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    yield full.to("cpu", dtype).flatten()


def _entry(stored: Stored, name: str, dtype: torch.dtype) -> Entry:
    return Entry(((name, dtype, stored.shape),), lambda: iter([read(stored).to(dtype).flatten()]))


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
        parts: by component; none: a folder that says where adapters come from.

    Raises:
        ValueError: as `write_checkpoint`.
    """
    if first:
        write_checkpoint(folder, {name: part.entries(name, dtype) for name, part in parts.items()}, config, tokenizer)
        return
    for _, part in sorted(parts.items()):  # in the order in which the first process asks
        for tensor in part.own.values():
            for _ in whole(tensor, dtype):
                pass


def write_adapters(
    folder: Path, adapters: Mapping[str, Tensor], about: Mapping[str, Any], dtype: torch.dtype, first: bool
) -> None:
    """Writes adapters as one file; every process must call it, the first one writes.

    Args:
        about: of each component rank, alpha and targets.

    Raises:
        ValueError: it could not be written.
    """
    held = {name: next(whole(tensor, dtype)).view(tensor.shape) for name, tensor in adapters.items()}
    if first:
        write_whole(folder / LORA, save(held, {"format": "pt", ABOUT: json.dumps(about)}), folder)
