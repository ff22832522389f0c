"""What the nano's VLM and VAE recipes have in common: one process, one pass a step, random data of each step's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..seeds import Stream, generator, of_stage
from ..stages import Stage


class SingleProcess:
    """The stage of a recipe that runs in one process.

    Raises:
        ValueError: there are several processes, or the stage's batch is told in tokens.
    """

    def __init__(self, stage: Stage) -> None:
        processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if processes > 1:
            raise ValueError(
                f"the stage {stage.name!r} trains in one process, not in {processes}: start it without torchrun"
            )
        if not stage.batch.samples:
            raise ValueError(f"the stage {stage.name!r} needs batch.samples: its batches are not told in tokens")
        self.stage, self.samples = stage, stage.batch.samples

    def draws(self, step: int) -> tuple[np.random.Generator, torch.Generator]:
        """The random numbers of a step, of the stage's own: for what is drawn, and for noise on the CPU."""
        rng = generator(of_stage(self.stage.seed, self.stage.name), Stream.LESSONS, step)
        return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))

    def tokens(self, step: int) -> int:
        """Of a step; the samples stand for them, since what they hold is drawn anew each time."""
        return self.samples


def once(figures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Figures of a step as the loop adds them up: each a sum and a count, here of one."""
    return {name: torch.stack([value.detach(), torch.ones_like(value)]) for name, value in figures.items()}
