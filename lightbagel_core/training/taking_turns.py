"""VLM, VAE and what trains on one card in turn: for a stage that draws while it trains, without room for all three."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from ..files.formats import Opened
from ..files.precision import Precision
from ..memory.offload import Offload, Residency


class Turns(Residency):
    """Brings VLM or VAE when one is needed, while what trains waits elsewhere; that comes back when it is needed.

    Args:
        modules: VLM and VAE, without weights.
        away: inside it, what trains takes no room.
    """

    def __init__(
        self,
        opened: Opened,
        modules: Mapping[str, Any],
        precision: Precision,
        device: torch.device,
        offload: Offload | None,
        away: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(opened, modules, precision, device, offload)
        self.away = away
        self._waits: ExitStack | None = None

    def need(self, *components: str) -> None:
        """Has VLM or VAE ready to compute, or what trains: these are all components that it does not hold."""
        if set(components) <= self.modules.keys():
            if self._waits is None:
                self._waits = ExitStack()
                self._waits.enter_context(self.away())
            super().need(*components)
            return
        super().need()
        self._back()

    def rest(self) -> None:
        """Gives up VLM and VAE, and has what trains back."""
        self.release(*self.modules)
        self._back()

    def _back(self) -> None:
        if self._waits is not None:
            waits, self._waits = self._waits, None
            waits.close()
