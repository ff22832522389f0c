"""One, two and two times two processes: the same gradients, losses and weights; what they move; and they end."""

from __future__ import annotations

import json

import pytest
import ranks
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
WORLDS = {"two, DDP": (2, 1), "two, FSDP": (2, 2), "two times two, HSDP": (4, 2), "four, FSDP": (4, 0)}


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    """Each tensor to a share of its own largest number."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        difference = (found[name] - tensor).abs().max()
        assert difference <= tolerance * tensor.abs().max(), (name, float(difference / tensor.abs().max()))


@pytest.fixture(scope="module")
def alone(saved, tmp_path_factory):
    """What one process finds in 20 steps."""
    out = tmp_path_factory.mktemp("alone")
    ranks.run("train", 1, model=str(saved), out=str(out), shard=1, steps=20)
    return out


@pytest.mark.parametrize(("size", "shard"), WORLDS.values(), ids=WORLDS)
def test_any_number_of_processes_has_the_same_gradients_and_losses(saved, alone, tmp_path, size, shard):
    ranks.run("train", size, model=str(saved), out=str(tmp_path), shard=shard, steps=20)
    close(load_file(tmp_path / "gradients.safetensors"), load_file(alone / "gradients.safetensors"), 1e-5)
    found, expected = (json.loads((folder / "found.json").read_text("utf-8")) for folder in (tmp_path, alone))
    assert len(expected["losses"]) == 20
    assert expected["losses"][-1] < 0.9 * expected["losses"][0]  # it does learn
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    assert found["norms"] == pytest.approx(expected["norms"], rel=1e-4)
    assert found["frozen"] == expected["frozen"] > 0
    weights = [load_file(folder / "weights.safetensors") for folder in (tmp_path, alone)]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shard", [1, 2], ids=["DDP", "FSDP"])
def test_a_rank_with_text_only_beside_one_with_three_sources(saved, tmp_path, shard):
    """They end, which they would not if what a batch holds decided which weights are asked for."""
    for size, folder in ((1, "alone"), (2, "two")):
        (tmp_path / folder).mkdir()
        arguments = {"model": str(saved), "out": str(tmp_path / folder), "steps": 2, "only": [0, 3]}
        ranks.run("train", size, shard=shard if size == 2 else 1, **arguments)
    close(*(load_file(tmp_path / folder / "gradients.safetensors") for folder in ("two", "alone")), 1e-5)


@pytest.mark.parametrize("passes", [1, 3])
def test_fsdp_moves_what_it_must(saved, tmp_path, passes):
    """With weights given up after use, a unit is gathered for each forward and each backward pass, what belongs to the
    root once a pass; gradients are exchanged once a step.
    """
    ranks.run("count", 2, model=str(saved), out=str(tmp_path), shard=2, passes=passes)
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    calls, moved = found["calls"], found["bytes"]
    print(found)
    read, units = len(found["frozen units"]), len(found["units"])
    assert calls["_allgather_base_"] == passes * (read + 2 * units + 1)
    assert calls["_reduce_scatter_base_"] == units + 1
    must = passes * (sum(found["frozen units"]) + 2 * sum(found["units"]) + found["root"])
    assert must <= moved["_allgather_base_"] <= 1.02 * must  # rows that do not divide evenly are filled up
    assert found["trained"] <= moved["_reduce_scatter_base_"] <= 1.02 * found["trained"]


@pytest.mark.parametrize("shard", [1, 2], ids=["DDP", "FSDP"])
def test_one_rank_may_draw_on_whole_weights(saved, tmp_path, shard):
    for size, folder in ((1, "alone"), (2, "two")):
        (tmp_path / folder).mkdir()
        ranks.run("infer", size, model=str(saved), out=str(tmp_path / folder), shard=shard if size == 2 else 1)
    two, alone = (load_file(tmp_path / folder / "found.safetensors") for folder in ("two", "alone"))
    close({k: v for k, v in two.items() if "drawn" in k}, {k: v for k, v in alone.items() if "drawn" in k}, 1e-5)
    assert not torch.equal(alone["drawn.0"], alone["drawn.2"])
    for number in range(3):
        share = two[f"held.{number}"] / alone[f"held.{number}"]
        assert share == 1 if shard == 1 else 0.5 <= share < 0.51
