"""What comes out of a stage: a checkpoint folder, of sharded weights too, a tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from ..files.tensor_files import Stored, Tensors, read
from ..files.writer import SHARD, Entry, shards, write_checkpoint

LORA = "lora.safetensors"  # adapters by component and name


def whole(tensor: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
    """The numbers of a tensor, flat, on the CPU; of a sharded one put together, for which every process must ask."""
    tensor = tensor.detach()
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    yield full.to("cpu", dtype).flatten()


def entries_of(module: nn.Module, dtype: torch.dtype) -> list[Entry]:
    """What is written of a module."""
    return [
        Entry(((name, dtype, tuple(tensor.shape)),), partial(whole, tensor, dtype))
        for name, tensor in module.state_dict().items()
    ]


def _entry(stored: Stored, name: str, dtype: torch.dtype) -> Entry:
    return Entry(((name, dtype, stored.shape),), lambda: iter([read(stored).to(dtype).flatten()]))


def write_model(
    folder: Path,
    config: LightBagelConfig,
    trained: Mapping[Any, nn.Module],
    earlier: Mapping[str, Tensors],
    others: Mapping[str, Tensors],
    tokenizer: Any,
    dtype: torch.dtype,
    first: bool,
) -> None:
    """Writes a checkpoint folder; every process must call it, the first one writes.

    Args:
        trained: modules by component. earlier: components that earlier stages made. Both are written in `dtype`.
        others: components that are copied as they are stored.

    Raises:
        ValueError: as `write_checkpoint`.
    """
    entries = {component: entries_of(module, dtype) for component, module in trained.items()}
    if first:
        entries |= {part: [_entry(stored, name, dtype) for name, stored in of.items()] for part, of in earlier.items()}
        entries |= {part: convert.entries(part, of, None) for part, of in others.items()}
        write_checkpoint(folder, entries, config, tokenizer)
        return
    files = {name: group for part, held in entries.items() for name, group in shards(part, held, SHARD).items()}
    for _, group in sorted(files.items()):  # in the order in which the first process asks
        for entry in group:
            for _ in entry.pieces():
                pass


def write_adapters(folder: Path, adapters: Mapping[str, Tensor], dtype: torch.dtype, first: bool) -> None:
    """Writes adapters as one file; every process must call it, the first one writes.

    Raises:
        ValueError: it could not be written.
    """
    held = {name: next(whole(tensor, dtype)).view(tensor.shape) for name, tensor in adapters.items()}
    if first:
        write_whole(folder / LORA, save(held, {"format": "pt"}), folder)
