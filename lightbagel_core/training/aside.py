"""Makes room on a device: what trains waits in the computer's memory while something else needs the card.

Tensors stay the same objects on the same device; only their memory goes and comes back. So whatever holds on to them,
such as the hooks by which DDP averages gradients, need not know.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

STAYS = ("cpu",)  # devices from which nothing need move


@contextmanager
def aside(
    module: nn.Module, optimiser: torch.optim.Optimizer, more: Iterable[Tensor], device: torch.device
) -> Iterator[None]:
    """Inside, the weights of a module, its optimiser's moments and `more` tensors take no memory of the device.

    Nothing may compute with them there. On a CPU nothing moves. Weights that several processes share stay: they are
    small by being shared.
    """
    if device.type in STAYS:
        yield
        return
    moments = (x for state in optimiser.state.values() for x in state.values() if isinstance(x, Tensor))
    waiting: list[tuple[torch.UntypedStorage, torch.UntypedStorage]] = []
    try:
        for storage in _storages((*module.parameters(), *module.buffers(), *moments, *more), device):
            waiting.append((storage, torch.UntypedStorage(storage.nbytes()).copy_(storage)))
            storage.resize_(0)
        _give_back(device)
        yield
    finally:
        _give_back(device)
        for storage, held in waiting:
            storage.resize_(held.nbytes())
            storage.copy_(held)


def _storages(tensors: Iterable[Tensor], device: torch.device) -> list[torch.UntypedStorage]:
    """What holds the numbers of tensors on a device, each once however many tensors look at it."""
    plain = (part for tensor in tensors for part in _plain(tensor) if part.device.type == device.type)
    found = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in plain}
    return [storage for storage in found.values() if storage.nbytes()]


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors with memory of their own of which one is made, as 8-bit moments are; of a shared one none."""
    if isinstance(tensor, DTensor):
        return
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _plain(getattr(tensor, name))
        return
    yield tensor.detach()


def _give_back(device: torch.device) -> None:
    gc.collect()
    torch.get_device_module(device).empty_cache()
