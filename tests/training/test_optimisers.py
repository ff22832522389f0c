"""Learning rates, and optimisers whose state goes through names and back."""

import math

import pytest
import torch
from torch import nn

from lightbagel_core.training import optimisers
from lightbagel_core.training import stages as config

NAMES = ["adamw", "adamw-8bit", "sgd"]


def made(name: str, dtype: torch.dtype = torch.float32, seed: int = 0):
    """(module, trained tensors, optimiser); 8-bit without torch.compile, which takes seconds."""
    if name == "adamw-8bit":
        pytest.importorskip("torchao")
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 32)).to(dtype)
    return (
        module,
        dict(module.named_parameters()),
        optimisers.make(config.Optimiser(name, lr=1e-2, weight_decay=0.1), module.parameters()),
    )


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        x = torch.randn(16, 64, generator=torch.Generator().manual_seed(step), dtype=torch.float32)
        module(x.to(next(module.parameters()).dtype)).square().mean().backward()
        with torch.compiler.set_stance("force_eager"):
            optimizer.step()
        optimizer.zero_grad()


def test_warm_up_times_a_cosine_over_the_whole_run():
    ours = config.Optimiser(lr=2.0, warmup=100, final_lr=0.02, schedule="cosine")
    rates = {step: optimisers.learning_rate(ours, 1000, step) for step in (0, 49, 250, 500, 1000, 2000)}
    assert rates[0] == pytest.approx(2 / 100)
    assert rates[49] == pytest.approx(2 / 2, rel=0.01)
    assert rates[250] == pytest.approx(2 * (0.02 + 0.98 * (1 + math.sqrt(0.5)) / 2))
    assert rates[500] == pytest.approx(2 * (0.02 + 0.98 / 2))
    assert rates[1000] == rates[2000] == pytest.approx(2 * 0.02)


def test_a_constant_rate_after_warm_up():
    ours = config.Optimiser(lr=3e-5, warmup=4)
    rates = [optimisers.learning_rate(ours, 10, step) / 3e-5 for step in range(6)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert optimisers.learning_rate(config.Optimiser(lr=3e-5, warmup=0), 10, 0) == 3e-5


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_that_was_set_is_the_one_that_is_stepped_with(name):
    module, trained, optimizer = made(name)
    before = {key: p.detach().clone() for key, p in trained.items()}
    optimisers.set_learning_rate(optimizer, 0.0)
    steps(module, optimizer, 0, 2)
    assert all(torch.equal(before[key], p) for key, p in trained.items())
    optimisers.set_learning_rate(optimizer, 1e-3)
    steps(module, optimizer, 2, 3)
    assert not any(torch.equal(before[key], p) for key, p in trained.items())


def test_adamw_follows_its_formula():
    """Three steps by hand, in float64."""
    weight = torch.tensor([1.0, -2.0])
    param = nn.Parameter(weight.clone())
    optimizer = optimisers.make(config.Optimiser(lr=0.1, betas=(0.9, 0.95), eps=1e-15, weight_decay=0.01), [param])
    first, second, ours = torch.zeros(2).double(), torch.zeros(2).double(), weight.double()
    for step in (1, 2, 3):
        gradient = torch.tensor([0.5 * step, -1.0 / step])
        param.grad = gradient.clone()
        optimizer.step()
        ours = ours * (1 - 0.1 * 0.01)
        first = 0.9 * first + 0.1 * gradient
        second = 0.95 * second + 0.05 * gradient**2
        ours = ours - 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.95**step)).sqrt() + 1e-15)
    assert param.tolist() == pytest.approx(ours.tolist(), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_state_can_be_asked_for_before_the_first_step_and_changes_nothing(name):
    module, trained, optimizer = made(name)
    before = {key: p.detach().clone() for key, p in trained.items()}
    trained["0.weight"].grad = torch.ones_like(trained["0.weight"])
    with torch.compiler.set_stance("force_eager"):
        found = optimisers.moments(optimizer, trained)
    assert bool(found) == (name != "sgd")
    assert all((v == 0).all() for key, v in found.items() if key.startswith("step."))
    assert all(torch.equal(before[key], p) for key, p in trained.items())
    assert [p.grad is None for p in trained.values()] == [False, True, True, True]
    optimizer.zero_grad()
    unasked, others, other = made(name)
    steps(module, optimizer, 0, 3)
    steps(unasked, other, 0, 3)
    assert all(torch.equal(p, trained[key]) for key, p in others.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_a_new_optimiser_goes_on_where_another_stopped(name, dtype):
    module, trained, optimizer = made(name, dtype)
    steps(module, optimizer, 0, 3)
    kept = {key: v.clone() for key, v in optimisers.moments(optimizer, trained).items()}
    weights = {key: p.detach().clone() for key, p in trained.items()}
    torch.manual_seed(5)  # stochastic rounding
    steps(module, optimizer, 3, 6)

    again, others, fresh = made(name, dtype, seed=1)
    with torch.no_grad():
        for key, p in others.items():
            p.copy_(weights[key])
    with torch.compiler.set_stance("force_eager"):
        optimisers.restore(fresh, others, kept)
    assert all(torch.equal(v, kept[key]) for key, v in optimisers.moments(fresh, others).items())
    torch.manual_seed(5)
    steps(again, fresh, 3, 6)
    for key, p in others.items():
        assert torch.equal(p, trained[key]), key


def test_state_that_is_loaded_in_place_is_the_optimisers_own():
    _, trained, optimizer = made("adamw")
    for value in optimisers.moments(optimizer, trained).values():
        value.fill_(7)
    assert all((v == 7).all() for p in trained.values() for v in optimizer.state[p].values())


def test_a_count_that_is_a_plain_number_goes_through_too():
    _, trained, optimizer = made("adamw")
    kept = {key: v.clone() for key, v in optimisers.moments(optimizer, trained).items()}
    for p in trained.values():
        optimizer.state[p]["step"] = 3
    kept |= {key: torch.tensor(9.0) for key in kept if key.startswith("step.")}
    optimisers.restore(optimizer, trained, kept)
    assert [optimizer.state[p]["step"] for p in trained.values()] == [9] * 4
    assert optimisers.moments(optimizer, trained)["step.0.bias"].item() == 9


def test_another_optimisers_state_is_refused_by_name():
    _, trained, optimizer = made("adamw")
    kept = dict(optimisers.moments(optimizer, trained))
    del kept["exp_avg.2.bias"]
    with pytest.raises(ValueError, match=r"it lacks exp_avg\.2\.bias"):
        optimisers.restore(optimizer, trained, kept)
    with pytest.raises(ValueError, match="it has besides exp_avg"):
        optimisers.restore(made("sgd")[2], trained, kept)
