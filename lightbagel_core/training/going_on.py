"""LoRAs that training goes on from: what their files say, in a stage's words, and the numbers that adapters begin with.

Whoever wrote a file, its adapters must be what one stage can train: of one rank and one alpha. Others can be merged
into the model before training (`model.loras`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..files.lora import Difference, LowRank, components_of, read_lora
from ..files.tensor_files import Tensors, listed
from .adapters import NUMBERED, targeted
from .stages import Lora, Stage


def resolved(stage: Stage, components: Mapping[str, Tensors]) -> Stage:
    """A stage whose LoRAs have the rank, the alpha and the targets of the files that they go on from.

    Args:
        components: the tensors of the model's; of those that are not there nothing is changed.

    Raises:
        ValueError: a file is missing or damaged, is of another model or not what the stage says of it, or holds
            adapters of several ranks.
    """
    found = {
        name: _resolved(name, lora, Path(lora.file), components[name])
        for name, lora in stage.lora.by_component().items()
        if lora.file is not None and name in components
    }
    return replace(stage, lora=replace(stage.lora, **found)) if found else stage


def numbers(component: str, file: Path, tensors: Tensors) -> dict[str, Tensor]:
    """The numbers of a file's adapters, by their names in training: "X.lora_A.weight" and "X.lora_B.weight".

    Raises:
        ValueError: as `resolved`.
    """
    made: dict[str, Tensor] = {}
    for weight, low_rank in _held(component, file, tensors).items():
        layer = weight.removesuffix(".weight")
        made |= {f"{layer}.lora_A.weight": low_rank.down, f"{layer}.lora_B.weight": low_rank.up}
    return made


def _held(component: str, file: Path, tensors: Tensors) -> dict[str, LowRank]:
    if component not in components_of(file):
        raise ValueError(f"lora.{component}.file: {file} holds no LoRA of the {component} component")
    found = read_lora(file, {component: tensors})[component]
    whole = sorted(name for name, one in found.items() if isinstance(one, Difference))
    if whole:
        raise ValueError(
            f"lora.{component}.file: {file} holds differences of whole tensors too, of {listed(whole)}; merge it into "
            "the model instead (model.loras), and train another on top"
        )
    return {name: one.read() for name, one in found.items() if not isinstance(one, Difference)}


def _resolved(component: str, lora: Lora, file: Path, tensors: Tensors) -> Lora:
    found = _held(component, file, tensors)
    kinds = {(len(low_rank.down), round(low_rank.scale * len(low_rank.down), 6)) for low_rank in found.values()}
    if len(kinds) > 1:
        several = listed([f"{rank} with alpha {alpha:g}" for rank, alpha in sorted(kinds)])
        raise ValueError(
            f"lora.{component}.file: {file} has several ranks, {several}, and adapters that are trained have one; "
            "merge it into the model instead (model.loras), and train another on top"
        )
    ((rank, alpha),) = kinds
    if lora.rank not in (0, rank):
        raise ValueError(f"lora.{component}.rank is {lora.rank}, and that of {file} is {rank}: leave it out")
    if lora.alpha is not None and not math.isclose(lora.alpha, alpha, rel_tol=1e-5):
        raise ValueError(f"lora.{component}.alpha is {lora.alpha:g}, and that of {file} is {alpha:g}: leave it out")
    linear = [n.removesuffix(".weight") for n, t in tensors.items() if n.endswith(".weight") and len(t.shape) == 2]
    layers = {weight.removesuffix(".weight") for weight in found}
    if not lora.targets:
        return replace(lora, rank=rank, alpha=alpha, targets=_targets(layers, linear, component))
    if differing := layers ^ set(targeted(linear, lora, component)):
        raise ValueError(
            f"lora.{component}.targets are not those of {file}, which differ in {listed(sorted(differing))}: leave "
            "them out"
        )
    return replace(lora, rank=rank, alpha=alpha)


def _targets(layers: Collection[str], linear: Sequence[str], component: str) -> tuple[str, ...]:
    """The shortest targets that choose some layers."""
    ends = tuple(sorted({name.split(".", 2)[2] if name.startswith(NUMBERED) else name for name in layers}))
    for targets in ((), ends):
        if set(targeted(linear, Lora(rank=1, targets=targets), component)) == set(layers):
            return targets
    return tuple(sorted(layers))
