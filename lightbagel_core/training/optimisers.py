"""Optimisers, their learning rate over a run, and their state as tensors with names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from . import eight_bit, stages

FUSED = ("cpu", "cuda", "xpu", "mps")  # where torch has one kernel for a whole AdamW step


def make(optimiser: stages.Optimiser, params: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Gives the optimiser of a stage; AdamW in one kernel where the device has it.

    Raises:
        ValueError: a library that it needs is not installed.
    """
    params = list(params)
    if optimiser.name == "sgd":
        return torch.optim.SGD(params, optimiser.lr, weight_decay=optimiser.weight_decay)
    options: dict[str, Any] = {"lr": optimiser.lr, "betas": optimiser.betas, "eps": optimiser.eps}
    options["weight_decay"] = optimiser.weight_decay
    if optimiser.name == "adamw-8bit":
        return eight_bit.adamw(params, **options)
    return torch.optim.AdamW(params, **options, fused=all(p.device.type in FUSED for p in params))


def learning_rate(optimiser: stages.Optimiser, steps: int, step: int) -> float:
    """The learning rate of a step (counted from 0): a linear warm-up, times a constant or one cosine over all steps."""
    rate = optimiser.lr * min(1.0, (step + 1) / max(1, optimiser.warmup))
    if optimiser.schedule == "constant":
        return rate
    cosine = (1 + math.cos(math.pi * min(1.0, step / max(1, steps)))) / 2
    return rate * (optimiser.final_lr + (1 - optimiser.final_lr) * cosine)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Has the next step use this learning rate."""
    for group in optimizer.param_groups:
        _set(group, rate)


def _set(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):  # torchao's are part of compiled code
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def moments(optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The optimiser's state by tensor: "exp_avg.<name>", "exp_avg_sq.<name>", "step.<name>"; for a checkpoint.

    They are the optimiser's own memory, sharded as the weights are; only a count that is a plain number is a copy,
    which `restore` gives back. What an optimiser makes in its first step is made here if it is not there yet, so that a
    checkpoint can be loaded into a new one. 8-bit moments are two tensors, "exp_avg_codes" and "exp_avg_scale".
    """
    _begin(optimizer)
    return _state(optimizer, trained)


@torch.no_grad()
def restore(optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Puts a state that `moments` gave into an optimiser of the same kind; what is its own memory already stays.

    Raises:
        ValueError: the state is of another optimiser or of other tensors.
    """
    _begin(optimizer)
    held = _state(optimizer, trained).keys()
    for what, names in {"lacks": held - tensors.keys(), "has besides": tensors.keys() - held}.items():
        if names:
            raise ValueError(f"this is another optimiser's state: it {what} {', '.join(sorted(names)[:5])}")
    for name, param in trained.items():
        state = optimizer.state.get(param, {})
        for kind, value in state.items():
            if isinstance(value, Tensor):
                for end, piece in _pieces(optimizer, param, value).items():
                    piece.copy_(tensors[f"{kind}{end}.{name}"])
            elif value is not None:
                state[kind] = type(value)(tensors[f"{kind}.{name}"].item())


def _state(optimizer: torch.optim.Optimizer, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, param in trained.items():
        for kind, value in optimizer.state.get(param, {}).items():
            if isinstance(value, Tensor):
                pieces = _pieces(optimizer, param, value)
                found.update({f"{kind}{end}.{name}": piece for end, piece in pieces.items()})
            elif value is not None:
                found[f"{kind}.{name}"] = torch.tensor(value, dtype=torch.float32)
    return found


def _pieces(optimizer: torch.optim.Optimizer, param: Tensor, value: Tensor) -> dict[str, Tensor]:
    if eight_bit.is_used(optimizer) and value.ndim:
        return eight_bit.pieces(param, value)
    return {"": value}


def _begin(optimizer: torch.optim.Optimizer) -> None:
    """Has an optimiser make its state, by a step with zero gradients and learning rate that is not counted."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    new = [p for p in params if not optimizer.state.get(p)]
    if not new or isinstance(optimizer, torch.optim.SGD):
        return
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    gradients = [p.grad for p in params]
    for p in params:
        p.grad = None
    for p in new:
        p.grad = torch.zeros_like(p)
    set_learning_rate(optimizer, 0.0)
    optimizer.step()
    for p, gradient in zip(params, gradients, strict=True):
        p.grad = gradient
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        _set(group, rate)
    for p in new:
        step = optimizer.state[p]["step"]
        optimizer.state[p]["step"] = step.zero_() if isinstance(step, Tensor) else type(step)(0)
