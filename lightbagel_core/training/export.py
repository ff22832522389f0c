"""What comes out of a stage: a checkpoint folder, of sharded weights too, a tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..config import LightBagelConfig
from ..files import convert
from ..files.tensor_files import Tensors
from ..files.writer import SHARD, Entry, shards, write_checkpoint


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


def write_model(
    folder: Path,
    config: LightBagelConfig,
    trained: Mapping[str, nn.Module],
    frozen: Mapping[str, Tensors],
    tokenizer: Any,
    dtype: torch.dtype,
    rank: int,
) -> None:
    """Writes a checkpoint folder; every process must call it, the first one writes.

    Args:
        trained: modules by component, written in `dtype`. frozen: components that are copied from their files.

    Raises:
        ValueError: as `write_checkpoint`.
    """
    entries = {component: entries_of(module, dtype) for component, module in trained.items()}
    if rank == 0:
        copied = {component: convert.entries(component, tensors, None) for component, tensors in frozen.items()}
        write_checkpoint(folder, entries | copied, config, tokenizer)
        return
    files = {
        name: group for component, held in entries.items() for name, group in shards(component, held, SHARD).items()
    }
    for _, group in sorted(files.items()):  # in the order in which the first process asks
        for entry in group:
            for _ in entry.pieces():
                pass
