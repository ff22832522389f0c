"""The loss on samples that are never trained on, at fixed times and fixed noise, so that two figures differ by the
weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..sampling.schedule import training_time
from .data.samples import Sample
from .lazy import Lazy
from .loss import Pass, noised

TIMES = 4  # at which each sample is measured
KEY = 2**31  # of the noise; no training step's


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Has modules in eval mode, and each of their parts back in its own mode afterwards."""
    parts = {part: part.training for module in modules for part in module.modules()}
    try:
        for part in parts:
            part.training = False
        yield
    finally:
        for part, training in parts.items():
            part.training = training


def place() -> tuple[int, int]:
    """(number of this process, how many there are)."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def added(values: Tensor) -> Tensor:
    """Values on the CPU, added over all processes; each of which must ask for it."""
    if place()[1] > 1:
        dist.all_reduce(values)
    return values


def quantiles(samples: int, times: int) -> Tensor:
    """Which quantiles of the training time each sample is measured at: float64 [samples, times].

    A sample's own are a `times`-th apart, and all together are evenly spread.
    """
    shares = (torch.arange(samples, dtype=torch.float64)[:, None] + 0.5) / samples
    return (torch.arange(times, dtype=torch.float64) + shares) / times


class HeldOut:
    """Measures the loss of a module (`loss.Drawing`, as the engine wraps it).

    Args:
        samples: the same ones on every process, at least one.
        patch: latent pixels along the side of a noised token.
        shift: of the training times.
        device_tokens: so many tokens in a pass at most, of a sample that is longer by itself as many as it has.
        computing: the autocast that training computes under.

    Raises:
        ValueError: there are no samples.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        patch: int,
        shift: float,
        device_tokens: int,
        times: int = TIMES,
        computing: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        if not samples:
            raise ValueError("a held-out loss needs samples: set validation.held_out to at least 1")
        self.samples, self.patch, self.shift, self.times, self.computing = samples, patch, shift, times, computing
        self.at = training_time(torch.special.ndtri(quantiles(len(samples), times)), shift).float()
        self.parts = [(first, end, k) for first, end in _groups(samples, device_tokens) for k in range(times)]
        self.passes = Lazy(len(self.parts), self._pass)

    def _pass(self, number: int) -> Pass:
        first, end, k = self.parts[number]
        part = noised(self.samples[first:end], [(KEY, i, k) for i in range(first, end)], self.shift)
        return replace(part, t=self.at[first:end, k])

    def loss(self, module: nn.Module) -> float:
        """The mean over all noised tokens; the same number on every process.

        And on any number of them, as far as the module computes the same: weights that are sharded in bfloat16 round
        norms which whole ones have in float32.
        """
        errors = added(self.errors(module, *place()))
        tokens = sum(sample.target[0].numel() // self.patch**2 for sample in self.samples)
        return float(errors.sum() / (self.times * tokens))

    @torch.no_grad()
    def errors(self, module: nn.Module, rank: int, world: int) -> Tensor:
        """The errors of each sample at each time, of this process's passes; 0 for others': float64.

        All processes call the module equally often: one that has no pass left repeats the first for nothing.
        """
        counts = [end - first for first, end, _ in self.parts]
        starts = [sum(counts[:number]) for number in range(len(counts))]
        found = torch.zeros(sum(counts), dtype=torch.float64)
        with evaluating(module):
            for first in range(0, len(self.passes), world):
                number = first + rank
                mine = number < len(self.passes)
                with self.computing():
                    errors = module(self.passes[number if mine else 0])
                if mine:
                    found[starts[number] : starts[number] + counts[number]] = (
                        errors.cpu().double()
                    )  # a Mac has no float64
        return found


def _groups(samples: Sequence[Sample], most: int) -> Iterator[tuple[int, int]]:
    """(first, end) of neighbours that fit into one pass."""
    first = tokens = 0
    for number, sample in enumerate(samples):
        own = sample.tokens
        if number > first and tokens + own > most:
            yield first, number
            first, tokens = number, 0
        tokens += own
    yield first, len(samples)
