"""What the loop asks of whatever it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn


class Recipe(Protocol):
    """What is trained, and the loss of a step."""

    @property
    def module(self) -> nn.Module:
        """All of it as one module, which the engine may wrap."""

    @property
    def units(self) -> Sequence[nn.Module]:
        """What of it is sharded on its own; a pass calls each equally often on every process."""

    def trained(self) -> Mapping[str, nn.Parameter]:
        """What is trained, by component and name: "fusion.layers.0.gen_q.weight"."""

    def passes(self, step: int) -> Sequence[Any]:
        """What this process sends through the module in a step; equally many on every process."""

    def loss(self, module: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """(This pass's share of the step's loss: all passes of all processes add up to it; figures to be recorded, each
        a sum and a count, [2], the same ones in every pass.)

        Args:
            module: `self.module` as the engine wraps it.
        """

    def tokens(self, step: int) -> int:
        """What a step learns from, over all processes, in tokens."""

    def named(self, step: int) -> list[str]:
        """What a step's batch is made of, for a person who looks for a damaged sample."""
