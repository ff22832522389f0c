"""The recipe of DiT, fusion stack and learned context: by flow matching, VLM and VAE frozen (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..model.attention import Attention
from ..model.fusion import FusionStack
from ..model.generation import Generation
from ..model.understanding import Understanding
from .data.supply import Part, Supply
from .lazy import Lazy
from .loss import Drawing, Pass, noised
from .stages import Stage


@dataclass(frozen=True, eq=False)
class Batch:
    """A pass, the weight of each of its samples, [B], and the noised tokens of the whole step over all processes."""

    samples: Pass
    weights: Tensor
    tokens: int


class DrawingRecipe:
    """See `trainer.Recipe`.

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

    def passes(self, step: int) -> Lazy[Batch]:
        """What this process sends through."""
        tokens = self.supply.noised(step)

        def batch(parts: Sequence[Part]) -> Batch:
            drawn = noised([part.sample for part in parts], [part.key for part in parts], self.stage.shift)
            return Batch(drawn, torch.tensor([part.weight for part in parts]), tokens)

        return self.supply.passes(step).mapped(batch)

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """This pass's share of the mean over all noised tokens of the step; see `trainer.Recipe`."""
        weights = batch.weights.to(self.fusion.context.device)
        errors = module(batch.samples) * weights
        edits = torch.tensor([sample.edit for sample in batch.samples.samples], device=errors.device)
        counts = weights * torch.tensor(batch.samples.tokens(self.gen.patch), device=errors.device)
        figures = {
            name: torch.stack([(errors.detach() * which).sum(), (counts * which).sum()])
            for name, which in {"draw": ~edits, "edit": edits}.items()
        }
        return errors.sum() / batch.tokens, figures

    def tokens(self, step: int) -> int:
        """What a step learns from, in tokens, before anything is dropped."""
        return self.supply.tokens(step)

    def named(self, step: int) -> list[str]:
        """Of which examples a step is made."""
        return self.supply.named(step)
