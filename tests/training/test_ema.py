"""The average of the weights against its closed form, and in the weights' place."""

import pytest
import safetensors.torch
import torch
import torch.distributed as dist

from lightbagel_core.training import stages as config
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
    ema = Ema({"w": weight}, config.Ema(0.999, warmup=False))
    weight *= 2
    ema.update(1)
    assert ema.state()["w"].tolist() == pytest.approx([1.001] * 3)


def validates(rank: int, world: int, store: str, out: str) -> None:
    """Writes what the module gives with its weights, with their averages, and with its weights again."""
    from toy_training import Toy, start

    start(rank, world, store)
    toy = Toy()
    for step in range(3):
        toy.step(step, 10)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():  # after a pass without a backward pass FSDP keeps the root's weights gathered
        found = {"before": toy.module(x)}
        with toy.ema.swapped(toy.module):
            found["averaged"] = toy.module(x)
        found["after"] = toy.module(x)
    if rank == 0:
        safetensors.torch.save_file(found, f"{out}/found.safetensors")
    dist.destroy_process_group()


@pytest.mark.slow
def test_passes_of_sharded_weights_see_the_averages_and_then_the_weights(tmp_path):
    begin = pytest.importorskip("toy_training", reason="needs torch 2.9", exc_type=ImportError).begin
    found = []
    for world in (1, 2):
        (out := tmp_path / str(world)).mkdir()
        processes = begin(world, out, target=validates)
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * world
        found.append(safetensors.torch.load_file(out / "found.safetensors"))
    assert torch.equal(found[0]["before"], found[0]["after"])
    assert not torch.allclose(found[0]["before"], found[0]["averaged"], atol=1e-3)
    for name, t in found[0].items():
        assert torch.allclose(t, found[1][name], atol=1e-6), name
