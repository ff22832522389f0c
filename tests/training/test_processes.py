"""One, two and two times two processes: the same gradients, losses and weights; what they move; and they end.

Each world is started once and does all its jobs; see rank_jobs.py.
"""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import ranks
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
WORLDS = {"two, DDP": (2, 1), "two, FSDP": (2, 2), "two times two, HSDP": (4, 2), "four, FSDP": (4, 0)}
UNEQUAL = [0, 3]  # of the samples: a text alone, and one with three sources; a rank each
TWICE = [0, 1, 2, 3, 3, 2, 1, 0]  # so many passes that four ranks have two each
LORA = {"generation": {"rank": 2}, "fusion": {"rank": 2}}
PASSES = (1, 3)


def jobs(saved, out, size: int, shard: int) -> list:
    """What the ranks of a world do, each with results in a folder of its own."""

    def job(name: str, folder: str, **said):
        return name, {"model": str(saved), "out": str(out / folder), "shard": shard, **said}

    found = [job("train", "twenty", steps=20), job("train", "mixed", steps=1, precision="bfloat16-mixed")]
    found += [job("train", "several passes", steps=1, only=TWICE), job("refused", "refused")]
    if find_spec("peft"):
        found.append(job("train", "lora", steps=2, train=["context"], lora=LORA))
    if size <= len(UNEQUAL):
        found += [job("train", "unequal", steps=2, only=UNEQUAL), job("infer", "drawn")]
    if 1 < shard <= size:
        found += [job("count", f"moved in {passes}", passes=passes) for passes in PASSES]
    return found


@pytest.fixture(scope="module")
def alone(saved, tmp_path_factory):
    """What one process finds."""
    out = tmp_path_factory.mktemp("alone")
    ranks.run(1, jobs(saved, out, 1, 1))
    return out


@pytest.fixture(scope="module", params=WORLDS.values(), ids=WORLDS)
def several(request, saved, tmp_path_factory):
    """(number of processes, how many share a copy, the folder with what they found)."""
    out = tmp_path_factory.mktemp("several")
    ranks.run(request.param[0], jobs(saved, out, *request.param))
    return *request.param, out


def close(found, expected, tolerance: float) -> None:
    """Each tensor of two files to a share of its own largest number."""
    found, expected = load_file(found), load_file(expected)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        difference = (found[name] - tensor).abs().max()
        assert difference <= tolerance * tensor.abs().max(), (name, float(difference / tensor.abs().max()))


def test_any_number_of_processes_has_the_same_gradients_and_losses(several, alone):
    out = several[2]
    close(out / "twenty/gradients.safetensors", alone / "twenty/gradients.safetensors", 1e-5)
    found, expected = (json.loads((folder / "twenty/found.json").read_text("utf-8")) for folder in (out, alone))
    assert len(expected["losses"]) == 20
    assert expected["losses"][-1] < 0.9 * expected["losses"][0]  # it does learn
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5)
    assert found["norms"] == pytest.approx(expected["norms"], rel=1e-4)
    assert found["frozen"] == expected["frozen"] > 0
    weights = [load_file(folder / "twenty/weights.safetensors") for folder in (out, alone)]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_gradients_of_several_passes_add_up(several, alone):
    name = "several passes/gradients.safetensors"
    close(several[2] / name, alone / name, 1e-5)


def test_what_the_first_process_cannot_do_ends_all_of_them(several):
    size, _, out = several
    said = {(out / "refused" / str(rank)).read_text("utf-8") for rank in range(size)}
    assert said == {"no room; 7"}


def test_mixed_precision_rounds_as_one_process_does(several, alone):
    """Masters are float32 in every world. Where weights are shared they are gathered in bfloat16, norms too."""
    paths = several[2] / "mixed", alone / "mixed", alone / "twenty"
    tensors = [load_file(path / "gradients.safetensors") for path in paths]
    assert {g.dtype for g in tensors[0].values()} == {torch.float32}
    found, expected, exact = (torch.cat([g.flatten() for _, g in sorted(of.items())]) for of in tensors)
    rounding = (expected - exact).norm()
    assert 0 < rounding < 0.1 * exact.norm()
    assert (found - exact).norm() < 1.4 * rounding


def test_adapters_have_the_same_gradients(several, alone):
    pytest.importorskip("peft")
    close(several[2] / "lora/gradients.safetensors", alone / "lora/gradients.safetensors", 1e-5)
    losses = [json.loads((f / "lora/found.json").read_text("utf-8"))["losses"] for f in (several[2], alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_rank_with_text_only_beside_one_with_three_sources(several, alone):
    """They end, which they would not if what a batch holds decided which weights are asked for."""
    size, _, out = several
    if size > len(UNEQUAL):
        pytest.skip("two samples")
    close(out / "unequal/gradients.safetensors", alone / "unequal/gradients.safetensors", 1e-5)


def test_one_rank_may_draw_on_whole_weights(several, alone):
    size, shard, out = several
    if size > len(UNEQUAL):
        pytest.skip("of two processes only")
    close(out / "drawn/drawn.safetensors", alone / "drawn/drawn.safetensors", 1e-5)
    drawn = load_file(alone / "drawn/drawn.safetensors")
    assert not torch.equal(drawn["0"], drawn["2"])
    for number in ("0", "1", "2"):  # and after it the weights are shared as before
        held, everything = (int(load_file(f / "drawn/held.safetensors")[number]) for f in (out, alone))
        assert held == everything if shard == 1 else 0.5 * everything <= held < 0.51 * everything


@pytest.mark.parametrize("passes", PASSES)
def test_fsdp_moves_what_it_must(several, passes):
    """With weights given up after use, a unit is gathered for each forward and each backward pass, what belongs to the
    root once a pass; gradients are shared out in each pass, so that none is kept whole, and averaged over copies once a
    step.
    """
    size, shard, out = several
    if not 1 < shard <= size:
        pytest.skip("so many processes that share their weights")
    found = json.loads((out / f"moved in {passes}" / "found.json").read_text("utf-8"))
    calls, moved, frozen, units = (found[key] for key in ("calls", "bytes", "frozen units", "units"))
    # The engine gathers ahead what ran before; before the first block that was a frozen layer without a backward pass.
    in_vain = frozen[-1]
    assert calls["_allgather_base_"] == passes * (len(frozen) + 2 * len(units) + 1) + 1
    assert calls["_reduce_scatter_base_"] == passes * (len(units) + 1)
    assert calls.get("allreduce_", 0) == (len(units) + 1) * (size > shard)
    must = passes * (sum(frozen) + 2 * sum(units) + found["root"]) + in_vain
    assert must <= moved["_allgather_base_"] <= 1.02 * must  # rows that do not divide evenly are filled up
    assert passes * found["trained"] <= moved["_reduce_scatter_base_"] <= 1.02 * passes * found["trained"]
