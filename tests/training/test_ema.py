"""The average of the weights against its closed form, and in the weights' place."""

import pytest
import torch

from lightbagel_core.training import config
from lightbagel_core.training.ema import Ema


def walk(ema: Ema, weight: torch.Tensor, steps: int) -> list[float]:
    """Steps the weight by 1 each time."""
    found = []
    for step in range(1, steps + 1):
        with torch.no_grad():
            weight += 1
        ema.update(step)
        found.append(ema.state()["w"].mean().item())
    return found


def test_a_steady_weight_is_followed_at_a_distance_with_a_closed_form():
    """A weight that grows by 1 a step is ahead of its average by d/(1-d) in the end."""
    weight = torch.zeros(3)
    ema = Ema({"w": weight}, config.Ema(0.9, warmup=False))
    assert walk(ema, weight, 300)[-1] == pytest.approx(300 - 0.9 / 0.1, rel=1e-5)


def test_warm_up_follows_faster():
    weight = torch.zeros(3)
    ema = Ema({"w": weight}, config.Ema(0.999, warmup=True))
    first, second = walk(ema, weight, 2)
    assert first == pytest.approx(1 - 2 / 11)
    assert second == pytest.approx(first + (2 - first) * (1 - 3 / 12))


def test_no_decay_keeps_no_average():
    weight = torch.ones(3)
    ema = Ema({"w": weight}, config.Ema(0.0))
    ema.update(1)
    assert ema.state() == {}
    with ema.swapped():
        assert weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_averages_stand_in_the_weights_place_and_both_come_back(dtype):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(50).to(dtype))
    ema = Ema({"w": weight}, config.Ema(0.9))
    with torch.no_grad():
        weight += 1
    ema.update(1)
    weights, averages = weight.detach().clone(), ema.state()["w"].clone()
    assert averages.dtype == torch.float32
    assert not torch.equal(averages.to(dtype).float(), averages) or dtype == torch.float32
    seen = []

    def validate():
        with ema.swapped():
            seen.append(weight.detach().clone())
            raise KeyError

    with pytest.raises(KeyError):
        validate()
    assert torch.equal(seen[0], averages.to(dtype))
    assert torch.equal(weight.detach(), weights)
    assert torch.equal(ema.state()["w"], averages)


def test_a_small_step_of_bfloat16_weights_is_not_lost():
    """In bfloat16 itself an average with decay 0.999 would not move at all."""
    weight = torch.ones(3, dtype=torch.bfloat16)
    ema = Ema({"w": weight}, config.Ema(0.999))
    weight *= 2
    ema.update(1)
    assert ema.state()["w"].tolist() == pytest.approx([1.001] * 3)
