"""What one process sees of each step: its passes, as samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .batches import Batches, Pick
from .samples import Sample

SamplesOf = Callable[[Sequence[Pick]], list[list[Sample]]]  # of each pick; of a chain one for each turn


@dataclass(frozen=True, eq=False)
class Part:
    """A sample of a pass, what its time and noise are drawn from, and its weight: 0 where it only stands in, so that
    every process has equally many passes.
    """

    sample: Sample
    key: tuple[int, ...]
    weight: float


class Supply:
    """
    Args:
        samples_of: gives the samples of picks. prepare: is called once a step, by every process, before they are asked
            for.
        names: of the sets, as a person knows them.
    """

    def __init__(
        self,
        batches: Batches,
        samples_of: SamplesOf,
        names: Sequence[str],
        size: int = 1,
        rank: int = 0,
        prepare: Callable[[int], object] = lambda step: None,
    ) -> None:
        self.batches, self.samples_of, self.names, self.size, self.rank = batches, samples_of, tuple(names), size, rank
        self.prepare = prepare
        self.tokens = lru_cache(maxsize=4)(self._tokens)

    def passes(self, step: int) -> list[list[Part]]:
        """This process's passes; equally many on every process."""
        self.prepare(step)
        dealt = self.batches.deal(step, self.size, self.rank)
        found = iter(self.samples_of([pick for picks in dealt for pick in picks]))
        return [
            [
                Part(sample, self.batches.key(step, pick, turn), pick.weight)
                for pick in picks
                for turn, sample in enumerate(next(found))
            ]
            for picks in dealt
        ]

    def noised(self, step: int) -> int:
        """The noised tokens of a step, over all processes."""
        return self.batches.noised(step)

    def _tokens(self, step: int) -> int:
        return sum(pick.tokens for pick in self.batches.batch(step))

    def named(self, step: int) -> list[str]:
        """Of which examples a step is made."""
        return [f"{self.names[pick.which]} {pick.index}" for pick in self.batches.batch(step)]
