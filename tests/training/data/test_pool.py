"""The rolling cache: what it holds depends on the step alone; only what is missing is made, by all processes."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lightbagel_core.model.forward import EncodedSegment
from lightbagel_core.model.sequence import ImageSegment
from lightbagel_core.training.data import pool
from lightbagel_core.training.data.pool import Pool
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.data.window import window
from lightbagel_core.training.stages import Cache

CACHE = Cache("rolling", samples=10, chunks=3, renew=5)
SEGMENTS = (ImageSegment("noised", 1, 1),)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(pool, "PART", 4)


class Made:
    """Makes a sample that says its slot, and notes what was asked of it."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.opened = self.inside = 0

    @contextmanager
    def making(self):
        self.opened += 1
        self.inside += 1
        yield self.make
        self.inside -= 1

    def make(self, slots):
        assert self.inside
        self.slots += slots
        return [
            [
                Sample(
                    SEGMENTS,
                    [EncodedSegment(torch.full((2, 2, 4), slot).bfloat16())],
                    torch.full((1, 2, 2), slot),
                    False,
                )
            ]
            for slot in slots
        ]


def held(some: Pool, slots) -> list[float]:
    return [float(sample.target[0, 0, 0]) for slot in slots for sample in some.samples(slot)]


def test_a_chunk_is_made_once_and_the_oldest_is_deleted(tmp_path):
    made = Made()
    some = Pool(tmp_path, CACHE, "mine", made.making)
    assert [some.prepare(step) for step in range(11)] == [True, *[False] * 4, True, *[False] * 4, True]
    assert made.slots == list(range(50))
    assert made.opened == 3
    assert made.inside == 0  # VLM and VAE are gone while it is trained
    slots = window(CACHE, 10)
    assert held(some, slots) == list(slots)
    assert len(list(tmp_path.iterdir())) == 3 * 3  # three parts a chunk
    assert sorted(tmp_path.iterdir())[0].name == "chunk-00000002-0000.safetensors"


def test_a_resumed_run_finds_what_is_there_and_makes_what_is_not(tmp_path):
    Pool(tmp_path, CACHE, "mine", Made().making).prepare(7)
    made = Made()
    some = Pool(tmp_path, CACHE, "mine", made.making)
    assert not some.prepare(7)
    assert made.opened == 0
    assert held(some, window(CACHE, 7)) == list(window(CACHE, 7))
    Pool(tmp_path, CACHE, "mine", made.making).prepare(12)
    assert made.slots == list(range(40, 50))
    earlier = Pool(tmp_path, CACHE, "mine", made.making)
    earlier.prepare(7)  # a run that goes on from an older checkpoint
    assert held(earlier, window(CACHE, 7)) == list(window(CACHE, 7))


def test_a_part_that_is_broken_off_or_of_other_settings_is_made_anew(tmp_path):
    Pool(tmp_path, CACHE, "mine", Made().making).prepare(0)
    files = sorted(tmp_path.iterdir())
    files[1].write_bytes(files[1].read_bytes()[:100])
    files[4].unlink()
    made = Made()
    some = Pool(tmp_path, CACHE, "mine", made.making)
    some.prepare(0)
    assert made.slots == [4, 5, 6, 7, 14, 15, 16, 17]
    assert held(some, window(CACHE, 0)) == list(range(30))
    other = Made()
    Pool(tmp_path, CACHE, "others", other.making).prepare(0)
    assert other.slots == list(range(30))
    again = Pool(tmp_path, CACHE, "mine", Made().making)
    again.ready = some.ready  # another run took the folder meanwhile
    with pytest.raises(ValueError, match="a folder of its own"):
        again.samples(3)


def test_a_read_part_is_kept(tmp_path):
    some = Pool(tmp_path, CACHE, "mine", Made().making)
    some.prepare(0)
    assert some.samples(5)[0] is some.samples(5)[0]


def test_processes_take_parts_in_turn(tmp_path, monkeypatch):
    made, waited = [Made(), Made()], []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: waited.append(tensor.device.type))
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        some = Pool(tmp_path, CACHE, "mine", made[rank].making)
        some.prepare(0)
    assert waited == ["cpu", "cpu"]
    assert sorted(made[0].slots + made[1].slots) == list(range(30))
    assert abs(len(made[0].slots) - len(made[1].slots)) <= 6
    assert held(some, range(30)) == list(range(30))


def _one_of_two(rank: int, folder) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    made = Made()
    some = Pool(folder / "pool", CACHE, "mine", made.making)
    for step in (0, 5):
        some.prepare(step)
    seen = held(some, window(CACHE, 5))
    (folder / f"{rank}.json").write_text(json.dumps([made.slots, seen]), "utf-8")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_wait_for_each_other(tmp_path):
    mp.start_processes(_one_of_two, (tmp_path,), nprocs=2, start_method="fork")
    (first, seen), (second, also_seen) = (json.loads((tmp_path / f"{r}.json").read_text("utf-8")) for r in range(2))
    assert sorted(first + second) == list(range(40))
    assert seen == also_seen == list(range(10, 40))
