"""What trains leaves the device and comes back as it was; a CPU counts as such a device here."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightbagel_core.training import aside as subject
from lightbagel_core.training import eight_bit, parallel
from lightbagel_core.training.aside import aside
from lightbagel_core.training.stages import Stage

HERE = torch.device("cpu")


def trained(module, make=torch.optim.AdamW):
    """An optimiser that has made a step."""
    optimiser = make(module.parameters())
    step(module, optimiser)
    return optimiser


def step(module, optimiser) -> None:
    module(torch.ones(2, module_of(module).in_features, device=next(module.parameters()).device)).sum().backward()
    optimiser.step()
    optimiser.zero_grad()


def module_of(module) -> nn.Linear:
    return module.module if isinstance(module, DistributedDataParallel) else module


def bytes_of(tensors) -> list[int]:
    return [x.untyped_storage().nbytes() for x in tensors]


@pytest.fixture
def moves(monkeypatch):
    """Has a CPU be a device from which things move."""
    monkeypatch.setattr(subject, "STAYS", ())
    monkeypatch.setattr(subject, "_give_back", lambda device: None)


def test_on_a_cpu_nothing_moves():
    module = nn.Linear(3, 2)
    with aside(module, trained(module), [], HERE):
        assert all(bytes_of(module.parameters()))


def test_weights_buffers_moments_and_averages_take_no_memory_inside_and_are_as_before_afterwards(moves):
    module = nn.Linear(3, 2)
    module.register_buffer("table", torch.arange(4.0))
    optimiser = trained(module)
    whole = torch.arange(10.0)
    tensors = [*module.parameters(), module.table, whole[:3], whole[3:]]  # two that look at one memory
    tensors += [x for state in optimiser.state.values() for x in state.values()]
    before, places = [x.detach().clone() for x in tensors], [id(p) for p in module.parameters()]
    with aside(module, optimiser, [whole[:3], whole[3:]], HERE):
        assert not any(bytes_of(tensors))
    assert all(torch.equal(x, y) for x, y in zip(tensors, before, strict=True))
    assert [id(p) for p in module.parameters()] == places
    step(module, optimiser)
    assert not torch.equal(module.weight, before[0])


def test_they_come_back_whatever_happens_inside(moves):
    module = nn.Linear(3, 2)
    optimiser, before = trained(module), module.weight.detach().clone()
    with pytest.raises(KeyError), aside(module, optimiser, [], HERE):
        raise KeyError
    assert torch.equal(module.weight, before)


def averages_go_on(device: torch.device) -> None:
    """DDP's hooks hang on autograd's nodes of the weights, which must outlive the move."""
    parallel.start(Stage(device="cpu"))
    try:
        asked = []
        wrapped = DistributedDataParallel(nn.Linear(3, 2).to(device))

        def hook(state, bucket):
            asked.append(bucket.index())
            done = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        wrapped.register_comm_hook(None, hook)
        nodes = [p.view_as(p).grad_fn.next_functions[0][0] for p in wrapped.parameters()]
        optimiser = trained(wrapped)
        with aside(wrapped, optimiser, [], device):
            assert not any(bytes_of(wrapped.parameters()))
        assert [p.view_as(p).grad_fn.next_functions[0][0] for p in wrapped.parameters()] == nodes
        before = len(asked)
        step(wrapped, optimiser)
        assert len(asked) > before
    finally:
        parallel.stop()


def test_gradients_are_averaged_as_before(moves):
    averages_go_on(HERE)
    assert not dist.is_initialized()


def test_8_bit_moments_move_as_the_tensors_they_are_made_of(moves):
    pytest.importorskip("torchao")
    module = nn.Linear(256, 32)
    with torch.compiler.set_stance("force_eager"):
        optimiser = trained(module, lambda p: eight_bit.adamw(p, lr=1e-3))
        moment = optimiser.state[module.weight]["exp_avg"]
        codes, before = moment.codes, moment.dequantize()
        with aside(module, optimiser, [], HERE):
            assert not codes.untyped_storage().nbytes()
        assert torch.equal(moment.dequantize(), before)
        step(module, optimiser)


def test_what_is_shared_among_processes_stays(moves):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    parallel.start(Stage(device="cpu"))
    try:
        shared = distribute_tensor(torch.arange(6.0).view(3, 2), init_device_mesh("cpu", (1,)), [Shard(0)])
        module = nn.Linear(3, 2)
        with aside(module, trained(module), [shared], HERE):
            assert torch.equal(shared.to_local(), torch.arange(6.0).view(3, 2))
    finally:
        parallel.stop()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_card():
    device = torch.device("cuda")
    module = nn.Linear(4096, 4096, device=device)
    optimiser, before = trained(module), module.weight.detach().cpu()
    held = torch.cuda.memory_allocated()
    with aside(module, optimiser, [], device):
        assert torch.cuda.memory_allocated() < held - 3 * 4096**2 * 4
    assert torch.equal(module.weight.cpu(), before)
    averages_go_on(device)
