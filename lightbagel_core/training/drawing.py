"""The recipe of DiT, fusion stack and learned context: by flow matching, VLM and VAE frozen (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..model.attention import Attention
from ..model.fusion import FusionStack
from ..model.generation import Generation
from ..model.understanding import Understanding
from .config import Stage
from .data.samples import Sample
from .loss import Drawing, Pass, noised


@dataclass(frozen=True, eq=False)
class Dealt:
    """One process's part of a step.

    passes: of each its samples, and of each sample the number in the step that its noise comes from and its weight: 0
    for one that only stands in, so that every process has equally many passes.
    tokens: the noised tokens of the whole step, over all processes.
    """

    passes: Sequence[Sequence[tuple[int, Sample, float]]]
    tokens: int


class Supply(Protocol):
    """Where samples come from: computed as they are needed, or from the rolling cache."""

    def dealt(self, step: int) -> Dealt:
        """This process's part of a step."""

    def named(self, step: int) -> list[str]:
        """Of which examples a step is made."""


class DrawingRecipe:
    """See `recipe.Recipe`.

    Args:
        und: the VLM where it runs beside the DiT; None where samples come with its states.
    """

    def __init__(
        self,
        stage: Stage,
        gen: Generation,
        fusion: FusionStack,
        attention: Attention,
        supply: Supply,
        und: Understanding | None = None,
    ) -> None:
        self.stage, self.gen, self.fusion, self.supply = stage, gen, fusion, supply
        self.und = und
        self.module = Drawing(gen, fusion, attention, und)
        language = [] if und is None else list(und.vlm.model.language_model.layers)
        self.units: Sequence[nn.Module] = [*language, *gen.blocks, *fusion.layers]

    def trained(self) -> Mapping[str, nn.Parameter]:
        """By component and name."""
        modules: dict[str, nn.Module] = {"generation": self.gen.dit, "fusion": self.fusion}
        if self.und is not None:
            modules["understanding"] = self.und.vlm
        return {
            f"{component}.{name}": weight
            for component, module in modules.items()
            for name, weight in module.named_parameters()
            if weight.requires_grad
        }

    def passes(self, step: int) -> Sequence[tuple[Pass, Tensor, int]]:
        """(what goes through, the weight of each sample, the noised tokens of the whole step)."""
        dealt = self.supply.dealt(step)
        found = []
        for group in dealt.passes:
            numbers, samples, weights = zip(*group, strict=True)
            keys = [(self.stage.seed, step, number) for number in numbers]
            found.append((noised(samples, keys, self.stage.shift), torch.tensor(weights), dealt.tokens))
        return found

    def loss(self, module: nn.Module, batch: tuple[Pass, Tensor, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """This pass's share of the mean over all noised tokens of the step; see `recipe.Recipe`."""
        samples, weights, tokens = batch
        errors = module(samples) * weights.to(self.fusion.context.device)
        edits = torch.tensor([sample.edit for sample in samples.samples])
        counts = weights * torch.tensor(samples.tokens(self.gen.patch))
        figures = {
            name: torch.stack([(errors.detach() * which.to(errors)).sum(), (counts * which).sum().to(errors)])
            for name, which in {"draw": ~edits, "edit": edits}.items()
        }
        return errors.sum() / tokens, figures

    def named(self, step: int) -> list[str]:
        """Of which examples a step is made."""
        return self.supply.named(step)
