"""LoRA on the linear layers of a component, by PEFT, in place: the component keeps its class and its own names.

What PEFT wraps is called `X.base_layer` there and its adapter `X.lora_A.default`; `plain` gives the names without
these words, under which weights lie in files and adapters are saved.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from ..files.precision import Float8Linear
from ..files.tensor_files import listed
from .stages import Adapters, Lora

NAME = "default"  # PEFT's own, of the one adapter that a component has
NUMBERED = ("blocks.", "layers.")


def check_peft() -> None:
    """Raises ValueError where PEFT is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ValueError("adapters (lora) need PEFT: pip install 'lightbagel[train]'") from None


def add(component: nn.Module, lora: Lora, what: str) -> None:
    """Gives a component adapters, on the device of its weights, and freezes all else of it.

    On the meta device they have no numbers yet: `is_adapter` and `begins_at_zero` say how they begin, so that the first
    output equals that without them.

    Args:
        what: the component's name, for messages.

    Raises:
        ValueError: PEFT is not installed, or no linear layer's name has one of the endings that are asked for.
    """
    check_peft()
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import Linear

    chosen = targets(component, lora, what)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=alpha(lora),
        lora_dropout=lora.dropout,
        target_modules=chosen,
        bias="none",
    )
    config._register_custom_module({Float8Linear: Linear})
    on_meta = any(p.is_meta for p in component.parameters())
    with warnings.catch_warnings():  # it does not know a float8 layer by its class, but takes it by its sizes
        warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
        inject_adapter_in_model(config, component, NAME, low_cpu_mem_usage=on_meta)


def alpha(lora: Lora) -> float:
    """What the adapter's product is multiplied by, times the rank."""
    return lora.rank if lora.alpha is None else lora.alpha


def about(lora: Adapters) -> dict[str, dict[str, Any]]:
    """What a file of adapters says of them, by component: rank, alpha, and the ends of names that were asked for."""
    return {
        name: {"component": name, "rank": of.rank, "alpha": alpha(of), "targets": list(of.targets)}
        for name, of in lora.by_component().items()
    }


def targets(component: nn.Module, lora: Lora, what: str) -> list[str]:
    """The names of the linear layers that get an adapter.

    Raises:
        ValueError: as `targeted`.
    """
    linear = [name for name, module in component.named_modules() if isinstance(module, nn.Linear | Float8Linear)]
    return targeted(linear, lora, what)


def targeted(linear: Sequence[str], lora: Lora, what: str) -> list[str]:
    """Which of a component's linear layers get an adapter, by their names: without targets those of its blocks; else
    those whose names end in one, as whole words between dots.

    Raises:
        ValueError: no name ends so.
    """
    if not lora.targets:
        return [name for name in linear if name.startswith(NUMBERED)]
    unknown = [end for end in lora.targets if not any(_ends(name, end) for name in linear)]
    if unknown:
        endings = sorted({name.split(".", 2)[-1] for name in linear if name.startswith(NUMBERED)})
        raise ValueError(
            f"lora.{what}.targets: no linear layer's name ends in {listed(unknown)}; there are {listed(endings)}"
        )
    return [name for name in linear if any(_ends(name, end) for end in lora.targets)]


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")


def plain(name: str) -> str:
    """A tensor's name without PEFT's words: that of a base weight, or `X.lora_A.weight`."""
    return name.replace(".base_layer.", ".").replace(f".{NAME}.", ".")


def is_adapter(name: str) -> bool:
    """Whether a tensor of this name belongs to an adapter."""
    return ".lora_" in name


def begins_at_zero(name: str) -> bool:
    """Whether a tensor of this name is the half of an adapter that is zero before training."""
    return ".lora_B." in name
