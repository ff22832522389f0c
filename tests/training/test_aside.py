"""What trains leaves the device and comes back as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightbagel_core.training import aside as subject
from lightbagel_core.training.aside import aside


def trained():
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    average = module.weight.detach().clone()
    return module, optimiser, [average]


def test_on_a_cpu_nothing_moves():
    module, optimiser, more = trained()
    places = [p.data_ptr() for p in module.parameters()]
    with aside(module, optimiser, more, torch.device("cpu")):
        assert [p.data_ptr() for p in module.parameters()] == places


def test_weights_moments_and_averages_leave_and_come_back_once_each(monkeypatch):
    module, optimiser, more = trained()
    moments = [x for state in optimiser.state.values() for x in state.values()]
    said = []
    monkeypatch.setattr(subject, "STAYS", ())
    monkeypatch.setattr(subject, "_give_back", lambda device: said.append("room"))
    monkeypatch.setattr(subject, "_move", lambda tensor, device: said.append((id(tensor), device)))
    here = torch.device("cpu")
    monkeypatch.setattr(subject, "CPU", "elsewhere")
    with aside(module, optimiser, [*more, module.weight], here):
        said.append("inside")
    tensors = {id(x) for x in (*module.parameters(), *moments, *more)}
    n = len(tensors)
    assert {x for x, _ in said[:n]} == tensors
    assert {place for _, place in said[:n]} == {"elsewhere"}
    assert said[n : n + 3] == ["room", "inside", "room"]
    assert {x for x, _ in said[n + 3 :]} == tensors
    assert len(said) == 2 * n + 3
    assert {place for _, place in said[n + 3 :]} == {here}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_card():
    module, _, _ = trained()
    module.cuda()
    optimiser = torch.optim.AdamW(module.parameters())
    with aside(module, optimiser, [], torch.device("cuda")):
        assert all(p.device.type == "cpu" for p in module.parameters())
    assert all(p.device.type == "cuda" for p in module.parameters())
