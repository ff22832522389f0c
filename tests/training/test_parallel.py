"""The engine in one process; tests/training/test_processes.py has several."""

from __future__ import annotations

from dataclasses import replace

import drawings
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.utils import counters

from lightbagel_core.model.attention import for_training
from lightbagel_core.training import parallel
from lightbagel_core.training.stages import Optimiser, Parallel, Stage

STAGE = Stage(
    train=("generation", "fusion", "context"),
    precision="float32",
    optimiser=Optimiser("sgd"),
    device="cpu",
    checkpointing=False,
)


@pytest.fixture
def world(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield parallel.start(STAGE)
    parallel.stop()
    assert not dist.is_initialized()


def gradients(module, step) -> dict[str, torch.Tensor]:
    module.zero_grad()
    for each in step:
        module(each).sum().backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_one_process_is_a_group_of_its_own(world):
    assert (world.rank, world.size, world.shard, world.mesh, world.first) == (0, 1, 1, None, True)
    assert dist.get_backend() == "gloo"
    assert parallel.start(STAGE) == world  # the next stage stays in the group
    module = nn.Linear(2, 2)
    assert parallel.wrap(module, [], world, STAGE) is module
    assert parallel.all_sum(torch.tensor(3.0)) == 3
    assert parallel.agree(True) is True
    assert parallel.agree(False) is False
    assert parallel.of_first(lambda: {"a": None}) == {"a": None}
    with parallel.whole(module), parallel.syncing(module, last=False):
        pass


def test_what_the_first_process_cannot_do_is_a_sentence(world):
    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match="No space left"):
        parallel.of_first(full)


def test_what_no_backend_adds_up_goes_by_the_cpu(world, monkeypatch):
    """As a Mac's GPU, here played by the CPU."""
    asked = []
    monkeypatch.setattr(parallel, "REDUCED", ())
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, copy: asked.append(device) or self.clone())
    assert parallel.all_sum(torch.tensor(3.0)) == 3
    assert asked == ["cpu"]


def test_so_many_processes_as_divide_them_share_a_copy():
    assert [parallel.shards(asked, 12) for asked in (0, 1, 4)] == [12, 1, 4]
    for asked in (5, -1, 24):
        with pytest.raises(ValueError, match=rf"shard {asked} does not divide 12 .* be 1, 2, 3, 4, 6, 12, or 0"):
            parallel.shards(asked, 12)
    with pytest.raises(ValueError, match="does not divide 1 processes"):
        parallel.start(replace(STAGE, parallel=Parallel(shard=2)))
    assert not dist.is_initialized()


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "compiled"])
def test_recomputed_units_have_the_same_gradients_and_keep_less(tiny, monkeypatch, compiled):
    step = drawings.passes(drawings.batch(tiny.und)[3:])
    plain = gradients(drawings.drawing(), step)
    module = drawings.drawing()
    if compiled:
        compile = torch.compile
        monkeypatch.setattr(torch, "compile", lambda call, **options: compile(call, backend="aot_eager", **options))
    parallel.prepare_units(drawings.units(module), replace(STAGE, checkpointing=True, compile=compiled))
    found = gradients(module, step)
    assert found.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(found[name], plain[name], rtol=1e-4, atol=1e-6 * float(plain[name].abs().max() + 1))
    assert kept(module, step) < 0.5 * kept(drawings.drawing(), step)


@pytest.mark.slow
def test_on_a_cpu_compiling_keeps_the_attention_that_was_chosen(world, tiny):
    torch._dynamo.reset()
    counters.clear()
    module = drawings.drawing()
    module.gen.use_attention(for_training(torch.device("cpu"), torch.bfloat16))
    parallel.prepare_units(module.gen.blocks, replace(STAGE, compile=True))
    with parallel.autocast(replace(STAGE, precision="bfloat16-mixed"), world):
        error = module(drawings.passes(drawings.batch(tiny.und)[:1])[0])
    error.sum().backward()
    assert counters["stats"]["unique_graphs"] > 0
    assert counters["inductor"]["fuse_attention"] == 0
    torch._dynamo.reset()


def kept(module, step) -> int:
    """Bytes of distinct tensors kept for the backward pass, other than weights."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    seen: dict[int, int] = {}

    def pack(x):
        if x.untyped_storage().data_ptr() not in weights:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = module(step[0])
    del result
    return sum(seen.values())


def test_without_gradients_nothing_is_kept_for_recomputation(tiny, monkeypatch):
    module = drawings.drawing()
    parallel.prepare_units(drawings.units(module), replace(STAGE, checkpointing=True))
    monkeypatch.setattr(parallel, "checkpoint", lambda *_, **__: pytest.fail("recomputed"))
    with torch.inference_mode():
        module(drawings.passes(drawings.batch(tiny.und)[:1])[0])


def test_gradients_are_clipped_by_the_norm_of_all_of_them():
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]
    weights[0].grad, weights[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert parallel.clip(weights, 0) == 5
    assert weights[1].grad == 4
    assert parallel.clip(weights, 0.5) == 5
    torch.testing.assert_close(weights[0].grad, torch.tensor([0.3, 0.0]))
    torch.testing.assert_close(weights[1].grad, torch.tensor([0.4]))


def test_small_gradients_are_not_touched():
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([3.0, 4.0])
    before = weight.grad._version
    assert parallel.clip([weight], 6.0) == 5
    assert weight.grad._version == before


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16-mixed", torch.bfloat16), ("bfloat16", torch.float32)],
)
def test_only_mixed_precision_casts_what_is_computed(world, precision, dtype):
    linear = nn.Linear(2, 2)
    with parallel.autocast(replace(STAGE, precision=precision), world):
        assert linear(torch.ones(1, 2)).dtype == dtype
