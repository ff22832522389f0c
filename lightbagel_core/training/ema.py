"""The moving average of the trained weights (EMA), which is what a finished training gives away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from . import stages


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies on this process, without autograd; the same memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Ema:
    """Float32 averages of the trained tensors, sharded as those are; none where the decay is 0.

    Args:
        trained: the trained tensors by name, as the engine has wrapped them.
    """

    def __init__(self, trained: Mapping[str, Tensor], ema: stages.Ema) -> None:
        self.ema = ema
        self.trained = dict(trained) if ema.decay else {}
        self._averages = {name: p.detach().to(torch.float32, copy=True) for name, p in self.trained.items()}

    def state(self) -> dict[str, Tensor]:
        """The averages by the tensors' names, for a checkpoint: loading into them in place restores them."""
        return dict(self._averages)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the averages towards the weights.

        Args:
            step: steps done so far, this one included. With warm-up the decay is at most (step + 1) / (step + 10).
        """
        if not self.trained:
            return
        decay = min(self.ema.decay, (step + 1) / (step + 10)) if self.ema.warmup else self.ema.decay
        same: tuple[list[Tensor], list[Tensor]] = ([], [])
        for name, weight in self.trained.items():
            average, new = local(self._averages[name]), local(weight)
            if new.dtype == torch.float32:
                same[0].append(average)
                same[1].append(new)
            else:  # one at a time: a float32 copy of all would be as large as the averages
                average.lerp_(new.float(), 1 - decay)
        if same[0]:
            torch._foreach_lerp_(*same, 1 - decay)

    @contextmanager
    def swapped(self, module: nn.Module | None = None) -> Iterator[None]:
        """Has the averages stand in the weights' place inside a `with`.

        Float32 weights change places with their averages, one at a time. Weights of another dtype wait in host memory:
        an average that was rounded to them would stop moving.

        Args:
            module: what the engine has wrapped; weights that it has gathered for a pass are let go.
        """
        waiting = self._exchange({})
        _let_go(module)
        try:
            yield
        finally:
            self._exchange(waiting)
            _let_go(module)

    @torch.no_grad()
    def _exchange(self, waiting: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = {}
        for name, weight in self.trained.items():
            average, here = local(self._averages[name]), local(weight)
            if name in waiting:
                here.copy_(waiting[name])
                continue
            before = here.clone() if here.dtype == torch.float32 else here.to("cpu", copy=True)
            here.copy_(average)
            if here.dtype == torch.float32:
                average.copy_(before)
            else:
                kept[name] = before
        return kept


def _let_go(module: nn.Module | None) -> None:
    for part in module.modules() if module is not None else ():
        if isinstance(part, FSDPModule):
            part.reshard()
