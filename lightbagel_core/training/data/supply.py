"""What one process sees of each step: its passes, as samples, read one after the other as they are reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache, partial

from ..lazy import Lazy
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
        names: of the sets, as a person knows them. steps: of the stage.
        ahead: whether the next pass is read in a thread while one is computed, as long as a step of the stage has one.
            Then what a step needs may be asked for before it is prepared.
    """

    def __init__(
        self,
        batches: Batches,
        samples_of: SamplesOf,
        names: Sequence[str],
        steps: int,
        size: int = 1,
        rank: int = 0,
        prepare: Callable[[int], object] = lambda step: None,
        ahead: bool = False,
    ) -> None:
        self.batches, self.samples_of, self.names, self.steps = batches, samples_of, tuple(names), steps
        self.size, self.rank, self.prepare = size, rank, prepare
        self.dealt = lru_cache(maxsize=4)(self._deal)
        self.tokens = lru_cache(maxsize=4)(self._tokens)
        self._thread = ThreadPoolExecutor(1, "samples") if ahead else None
        self._next: tuple[int, int] | None = None  # step and number of the pass that is being read
        self._reading: Future[list[Part]] = Future()

    def passes(self, step: int) -> Lazy[list[Part]]:
        """This process's passes; equally many on every process. To be gone through in order, before those of a later
        step.
        """
        self.prepare(step)
        return Lazy(len(self.dealt(step)), partial(self._pass, step), self._rest)

    def _pass(self, step: int, number: int) -> list[Part]:
        if self._thread is None:
            return self._read(step, number)
        reading, known = self._reading, self._next == (step, number)
        self._rest()
        found = reading.result() if known else self._read(step, number)
        last = number + 1 == len(self.dealt(step))
        step, number = (step + 1, 0) if last else (step, number + 1)
        if step < self.steps:
            self._next = step, number
            self._reading = self._thread.submit(self._read, step, number)
        return found

    def _rest(self) -> None:
        """Waits for the thread, so that nothing is read while something else is done with the model."""
        if self._next is not None:
            wait([self._reading])

    def _read(self, step: int, number: int) -> list[Part]:
        picks = self.dealt(step)[number]
        return [
            Part(sample, self.batches.key(step, pick, turn), pick.weight)
            for pick, samples in zip(picks, self.samples_of(picks), strict=True)
            for turn, sample in enumerate(samples)
        ]

    def _deal(self, step: int) -> list[list[Pick]]:
        return self.batches.deal(step, self.size, self.rank)

    def noised(self, step: int) -> int:
        """The noised tokens of a step, over all processes."""
        return self.batches.noised(step)

    def _tokens(self, step: int) -> int:
        return sum(pick.tokens for pick in self.batches.batch(step))

    def named(self, step: int) -> list[str]:
        """Of which examples a step is made."""
        return [f"{self.names[pick.which]} {pick.index}" for pick in self.batches.batch(step)]
