"""What recipes that run in one process refuse, and the random numbers of their steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightbagel_core.training.nano.single_process import SingleProcess
from lightbagel_core.training.seeds import Stream, generator, of_stage
from lightbagel_core.training.stages import Batch, Stage


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="'vae' trains in one process, not in 2: start it without torchrun"):
        SingleProcess(Stage(name="vae"))
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    SingleProcess(Stage(name="vae"))


def test_a_batch_in_tokens_is_refused():
    with pytest.raises(ValueError, match=r"'vae' needs batch\.samples"):
        SingleProcess(Stage(name="vae", batch=Batch(tokens=100)))


def test_a_steps_numbers_depend_on_seed_stage_and_step():
    def first(rng: np.random.Generator, noise: torch.Generator) -> tuple[int, int]:
        return int(rng.integers(2**40)), int(torch.randint(2**40, (), generator=noise))

    def numbers(name: str, seed: int, step: int) -> tuple[int, int]:
        return first(*SingleProcess(Stage(name=name, seed=seed)).draws(step))

    rng = generator(of_stage(1, "vlm"), Stream.LESSONS, 5)
    noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
    assert numbers("vlm", 1, 5) == numbers("vlm", 1, 5) == first(rng, noise)
    others = [numbers("vae", 1, 5), numbers("mlv", 1, 5), numbers("vlm", 2, 5), numbers("vlm", 1, 6)]
    firsts, seconds = zip(numbers("vlm", 1, 5), *others, strict=True)
    assert len(set(firsts)) == len(others) + 1 == len(set(seconds))
