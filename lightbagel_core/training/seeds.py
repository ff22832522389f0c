"""Random numbers of a run: each use has a stream of its own, so that no two draw the same numbers from one seed.

What a stage draws comes from its own seed (`of_stage`): else two stages of a run would begin with the same examples,
dropout and noise. From the run's seed comes what all of them have in common.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream is for. A number that was once given stays: another would give another run."""

    ORDER = 11  # of the sets within a block of slots
    EPOCH = 12  # the order of a finite set's examples
    WORLD = 13  # the nano's scenes and sentences
    HELD_OUT = 14  # which examples are left to validation
    TURNS = 15  # whether a chain is joined
    DROPOUT = 16  # which segments of a slot's example are dropped
    NOISE = 17  # times and noise of a step's samples
    WINDOW = 18  # which slots of the rolling cache a step takes
    MODULES = 19  # what modules draw themselves: a LoRA's dropout
    LESSONS = 20  # what the nano's VLM and VAE learn from in a step
    DRY_RUN = 21  # which segments a dry run supposes to be dropped
    PREVIEW = 98  # pictures from whose latents colours are fitted
    STATISTICS = 99  # pictures whose latents' mean and deviation are measured


def of_stage(seed: int, name: str) -> int:
    """The seed of one stage of a run, from the run's seed and the stage's name."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")


def generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The random numbers of one use in one place, say a step or a slot."""
    return np.random.default_rng([seed, int(stream), *key])
