"""Steps that must stop a training, and those that must not."""

import math

import pytest

from lightbagel_core.training.claim import claim
from lightbagel_core.training.stages import Optimiser, Stage
from lightbagel_core.training.watch import BEGIN, Watch


def samples():
    return ["world 12", "pictures/cat.png"]


def steady(leap: float, count: int = BEGIN) -> Watch:
    watch = Watch(leap)
    for step in range(count):
        watch.look(step, 0.5 + 0.01 * (step % 3), 1.0, samples)
    return watch


@pytest.mark.parametrize(
    ("loss", "norm", "said"),
    [
        (math.nan, 1.0, "the loss is nan"),
        (math.inf, 1.0, "the loss is inf"),
        (0.5, math.nan, "the norm of its gradients is nan"),
        (5.2, 1.0, "more than leap = 10 times 0.51"),
    ],
)
def test_it_stops_with_step_loss_and_batch(loss, norm, said):
    with pytest.raises(ValueError, match="step 20 stops the training") as error:
        steady(10.0).look(20, loss, norm, samples)
    assert said in str(error.value)
    assert "world 12, pictures/cat.png" in str(error.value)


def test_what_it_advises_a_resumed_run_may_be_asked(tmp_path):
    with pytest.raises(ValueError, match="--resume") as error:
        Watch(0).look(0, math.nan, 1.0, samples)
    changed = {"lr": 1e-6, "clip": 0.1}
    assert all(f"optimiser.{name}" in str(error.value) for name in changed)
    with claim(tmp_path, [Stage()], resume=False):
        pass
    with claim(tmp_path, [Stage(optimiser=Optimiser(**changed))], resume=True):
        pass


def test_a_leap_is_one_only_after_enough_steps_and_above_the_bound():
    steady(10.0, BEGIN - 1).look(BEGIN, 1e6, 1.0, samples)
    steady(10.0).look(BEGIN, 5.0, 1.0, samples)
    steady(0.0).look(BEGIN, 1e6, 1.0, samples)


def test_old_losses_are_forgotten():
    watch = Watch(10.0)
    for step in range(200):
        watch.look(step, 100.0 * 0.9 ** (step / 2), 1.0, samples)
    assert 0 < max(watch.losses) < 1
    with pytest.raises(ValueError, match="leap"):
        watch.look(200, 2.0, 1.0, samples)


def test_the_batch_is_only_asked_for_when_it_is_to_be_said():
    Watch(10.0).look(0, 1.0, 1.0, lambda: pytest.fail("asked"))
