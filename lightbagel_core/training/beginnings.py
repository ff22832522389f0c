"""What untrained modules begin with, as their own code draws it, without any of them being built whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..model.fusion import FusionStack
from .adapters import begins_at_zero

NEAR_ZERO = 0.02  # std of the learned context, and of each block's modulation: see `own_tensors`


def drawn(module: nn.Module, seed: str, which: Callable[[str], bool] | None = None) -> Iterator[tuple[str, Tensor]]:
    """(name, float32 tensor on the CPU) of a module's parameters, those of one submodule after another's.

    A submodule's numbers depend on the seed and its name alone. At no time is there more than one submodule's.

    Args:
        seed: any text. which: of the parameters, by name; None: all.

    Raises:
        ValueError: it is not known how a parameter begins.
    """
    makers: dict[str, Any] = {}  # the models of transformers, which draw all that is inside them, by name
    for name, inner in module.named_modules():
        if hasattr(inner, "_init_weights"):
            makers[name] = inner
        names = {key: f"{name}.{key}".removeprefix(".") for key, p in inner._parameters.items() if p is not None}
        if not names or not any(which is None or which(full) for full in names.values()):
            continue
        above = [maker for at, maker in makers.items() if not at or name == at or name.startswith(f"{at}.")]
        digest = hashlib.sha256(f"{seed}.{name}".encode()).digest()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(int.from_bytes(digest[:8], "little"))
            made = own_tensors(inner, name, above[-1] if above else None)
        for key, full in names.items():
            yield full, made.pop(key)


def own_tensors(module: nn.Module, name: str, maker: Any = None) -> dict[str, Tensor]:
    """A submodule's own parameters, float32, without those of its submodules.

    All are what its code makes of them, but for the modulation of the DiT's blocks: its gates begin nearer to zero than
    Wan's own, which are made for loading weights into.

    Args:
        name: of the submodule. maker: the model of transformers around it, if any.

    Raises:
        ValueError: it is not known how one begins.
    """
    made = {key: torch.empty(p.shape) for key, p in module._parameters.items() if p is not None}
    stand_in: Any = object.__new__(type(module))  # of the same class, with weights of its own
    stand_in.__dict__.update(module.__dict__)
    stand_in._parameters = dict.fromkeys(module._parameters)
    stand_in._parameters |= {key: nn.Parameter(tensor, requires_grad=False) for key, tensor in made.items()}
    if isinstance(module, FusionStack):
        made["context"].normal_().mul_(NEAR_ZERO)
    elif "scale_shift_table" in made:
        table = made["scale_shift_table"]
        table.normal_().mul_(NEAR_ZERO if name else table.shape[-1] ** -0.5)
    elif begins_at_zero(f".{name}.") or name.endswith(".gen_out"):
        made["weight"].zero_()
    elif maker is not None:
        maker._init_weights(stand_in)
    elif hasattr(module, "reset_parameters"):
        stand_in.reset_parameters()
    elif set(made) <= {"weight", "gamma", "bias"} and "norm" in type(module).__name__.lower():
        for key, tensor in made.items():
            tensor.fill_(0.0 if key == "bias" else 1.0)
    else:
        raise ValueError(f"it is not known how {name} ({type(module).__name__}) begins: {', '.join(made)}")
    return made
