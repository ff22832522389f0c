"""Which example stands where: an endless row of slots, filled from several sets by weight.

Slot k is a pure function of (seed, k): so the batches of a run depend on its seed and the step alone, on any number of
processes, and a resumed run goes on exactly. Within a block of slots each set has its exact share, in random order, and
a finite set's examples come in random order, all of them before any comes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..seeds import Stream, generator

BLOCK = 1000  # slots within which the shares are exact


class Mix:
    """
    Args:
        weights: of the sets, above 0. counts: how many examples each has; None: without end.
    """

    def __init__(self, weights: Sequence[float], counts: Sequence[int | None], seed: int) -> None:
        if any(count == 0 for count in counts):
            raise ValueError("a set of examples is empty")
        self.counts, self.seed = tuple(counts), seed
        shares = np.array(weights) / np.sum(weights) * BLOCK
        quotas = np.floor(shares).astype(int)
        for i in np.argsort(quotas - shares, kind="stable")[: BLOCK - quotas.sum()]:  # largest remainders
            quotas[i] += 1
        self.quotas = np.maximum(quotas, 1)
        self.block = int(self.quotas.sum())
        self._order = lru_cache(maxsize=4)(self._draw_order)
        self._epoch = lru_cache(maxsize=2 * len(self.counts))(self._draw_epoch)

    def __getitem__(self, slot: int) -> tuple[int, int]:
        """(set, index of the example in it) of a slot."""
        block, at = divmod(slot, self.block)
        which, rank = (int(x[at]) for x in self._order(block))
        number = block * int(self.quotas[which]) + rank  # so many examples of this set stand in earlier slots
        count = self.counts[which]
        if count is None:
            return which, number
        epoch, place = divmod(number, count)
        return which, int(self._epoch(which, epoch)[place])

    def _draw_order(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """For each slot of a block its set, and how many slots of that set stand before it in the block."""
        sets = np.repeat(np.arange(len(self.quotas)), self.quotas)
        sets = generator(self.seed, Stream.ORDER, block).permutation(sets)
        ranks = np.empty_like(sets)
        for i, quota in enumerate(self.quotas):
            ranks[sets == i] = np.arange(quota)
        return sets, ranks

    def _draw_epoch(self, which: int, epoch: int) -> np.ndarray:
        count = self.counts[which]
        assert count is not None
        return generator(self.seed, Stream.EPOCH, which, epoch).permutation(count)
