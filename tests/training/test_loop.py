"""The loop resumes to the same weights; its learning rate follows its schedule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from lightbagel_core.training.loop import Recipe, Training, learning_rate


def toy(out, steps: int, until: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    accelerator = Accelerator(mixed_precision="bf16")  # as nano.main makes it: accelerate allows one kind a process
    model = nn.Linear(4, 2).to(accelerator.device)
    training = Training("toy", model, Recipe(steps, 1e-2, warmup=2, autocast=False), out, accelerator)

    def loss(rng: np.random.Generator, generator: torch.Generator):
        x = torch.randn(8, 4, generator=generator, device=generator.device) + float(rng.random())
        return (model(x) - x[:, :2]).square().mean(), {}

    training.run(loss, seed=3, until=until)
    training.use_ema()
    return model


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    unbroken = toy(tmp_path / "a", 30)
    toy(tmp_path / "b", 30, until=11)
    resumed = toy(tmp_path / "b", 30)
    assert torch.equal(unbroken.weight, resumed.weight)


def test_learning_rate_warms_up_and_ends_low():
    recipe = Recipe(steps=1000, lr=1.0, warmup=100, final_lr=0.02)
    assert learning_rate(recipe, 0) == pytest.approx(0.01, rel=0.01)
    assert learning_rate(recipe, 500) == pytest.approx(0.51, rel=0.01)
    assert learning_rate(recipe, 1000) == pytest.approx(0.02)
