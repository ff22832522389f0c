"""Makes room on a device: what trains waits in the computer's memory while something else needs the card."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")  # where what trains waits
STAYS = ("cpu",)  # devices from which nothing need move


@contextmanager
def aside(
    module: nn.Module, optimiser: torch.optim.Optimizer, more: Iterable[Tensor], device: torch.device
) -> Iterator[None]:
    """Inside, the weights of a module, its optimiser's moments and `more` tensors are not on the device.

    On a CPU nothing moves. Weights that several processes share stay: they are small by being shared.
    """
    if device.type in STAYS:
        yield
        return
    moments = (x for state in optimiser.state.values() for x in state.values() if isinstance(x, Tensor))
    distinct = {id(x): x for x in (*module.parameters(), *module.buffers(), *moments, *more)}
    moved = [x for x in distinct.values() if x.device.type == device.type]
    for tensor in moved:
        _move(tensor, CPU)
    _give_back(device)
    try:
        yield
    finally:
        _give_back(device)
        for tensor in moved:
            _move(tensor, device)


def _move(tensor: Tensor, device: torch.device) -> None:
    tensor.data = tensor.data.to(device)


def _give_back(device: torch.device) -> None:
    gc.collect()
    torch.get_device_module(device).empty_cache()
