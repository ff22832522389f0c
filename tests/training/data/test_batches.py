"""A batch depends on seed and step alone; on any number of processes each of its samples is dealt once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config

from lightbagel_core.images import size_by_rule
from lightbagel_core.training.data.batches import BLOCK, Batches, Pick, packed, spread, token_counts
from lightbagel_core.training.data.example import Example, Shape, Turn
from lightbagel_core.training.data.window import window
from lightbagel_core.training.stages import Batch, Cache, Data, DataSet, Stage

CONFIG = tiny_config()
WORLDS = (1, 2, 3, 8)


class Sized:
    """Examples of all sizes, some of several turns; pictures are made when asked for."""

    identity = "sized"

    def __init__(self, seed: int, count: int | None = None) -> None:
        self.seed, self.count, self.read = seed, count, 0

    def shape(self, index: int) -> Shape:
        assert self.count is None or 0 <= index < self.count
        rng = np.random.default_rng([self.seed, index])
        sizes = [(int(w), int(h)) for w, h in rng.integers(40, 200, (5, 2))]
        turns = int(rng.integers(1, 3))
        return Shape(tuple(sizes[: rng.integers(0, 3)]), tuple(sizes[3 : 3 + turns]), (4, 9)[:turns])

    def __getitem__(self, index: int) -> Example:
        self.read += 1
        shape = self.shape(index)
        turns = [Turn(f"{index} {turn}", Image.new("RGB", size)) for turn, size in enumerate(shape.targets)]
        return Example(tuple(Image.new("RGB", size) for size in shape.sources), tuple(turns))


def batches(batch: Batch = Batch(samples=13, device_tokens=120), seed: int = 1, **options) -> Batches:  # noqa: B008
    data = Data((DataSet(weight=3), DataSet(weight=1)), options.pop("turns", "mixed"))
    stage = Stage(seed=seed, batch=batch, data=data, **options)
    return Batches([Sized(1), Sized(2, 17)], stage, CONFIG)


KINDS = {
    "samples": {},
    "tokens": {"batch": Batch(tokens=900, device_tokens=120)},
    "rolling": {"cache": Cache("rolling", samples=10, chunks=3, renew=2)},
    "rolling tokens": {
        "batch": Batch(tokens=900, device_tokens=120),
        "cache": Cache("rolling", samples=10, chunks=3, renew=2),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_is_dealt_once_on_any_number_of_processes(kind):
    some = batches(**KINDS[kind])
    for step in (0, 1, 17):
        whole = batches(**KINDS[kind]).batch(step) if step else some.batch(step)
        assert [pick.number for pick in whole] == list(range(len(whole)))
        for world in WORLDS:
            ranks = [some.deal(step, world, rank) for rank in range(world)]
            assert len({len(passes) for passes in ranks}) == 1
            dealt = [pick for passes in ranks for one in passes for pick in one]
            assert all(one for passes in ranks for one in passes)
            assert sorted((p for p in dealt if p.weight), key=lambda pick: pick.number) == list(whole)
            assert {p.weight for p in dealt} <= {0.0, 1.0}
            for one in (one for passes in ranks for one in passes):
                assert len(one) == 1 or sum(pick.tokens for pick in one) <= 120


def test_a_batch_is_a_function_of_seed_and_step():
    one, other = batches(), batches()
    later = [other.batch(step) for step in (9, 3, 0)]
    assert [one.batch(step) for step in (9, 3, 0)] == later
    assert batches(seed=2).batch(0) != later[2]
    assert one.sets[0].read == 0  # shapes say it all


def test_steps_take_slots_one_after_the_other():
    some = batches()
    assert [pick.slot for step in range(4) for pick in some.batch(step)] == list(range(4 * 13))
    assert all((pick.which, pick.index) == some.mix[pick.slot] for pick in some.batch(2))


def test_steps_of_so_many_tokens_hold_nearly_as_many_and_use_every_slot_once():
    some = batches(Batch(tokens=900, device_tokens=120))
    steps = [some.batch(step) for step in range(2 * BLOCK)]
    totals = [sum(pick.tokens for pick in step) for step in steps]
    for block in (totals[:BLOCK], totals[BLOCK:]):
        assert max(block) - min(block) < 40
    assert np.mean(totals) == pytest.approx(900, rel=0.05)
    slots = sorted(pick.slot for step in steps for pick in step)
    assert slots == list(range(len(slots)))


def test_the_rolling_cache_gives_what_it_holds_at_the_step():
    cache = Cache("rolling", samples=10, chunks=3, renew=2)
    some = batches(cache=cache)
    for step in (0, 1, 2, 31):
        slots = [pick.slot for pick in some.batch(step)]
        assert len(set(slots)) == 13
        assert set(slots) <= set(window(cache, step))
    assert some.batch(0) != some.batch(1)  # of the same chunks
    many = batches(Batch(samples=40), cache=cache).batch(0)  # more than it holds: all, and some again
    assert {pick.slot for pick in many} == set(range(30))
    assert len({batches().key(0, pick, 0) for pick in many}) == 40
    tokens = [sum(p.tokens for p in batches(**KINDS["rolling tokens"]).batch(step)) for step in range(30)]
    assert np.mean(tokens) == pytest.approx(900, rel=0.03)


@pytest.mark.parametrize("turns", ["joined", "chain", "mixed"])
def test_noised_tokens_are_those_of_the_samples_targets(turns):
    some = batches(turns=turns)
    for step in range(3):
        count, lengths = 0, set()
        for pick in some.batch(step):
            plans = some.plans(pick)
            lengths.add(len(plans))
            assert len(plans) == 1 or not pick.joined
            sizes = [size_by_rule(*p.target.size, CONFIG.vae_image) for p in plans]
            count += sum(w * h // 32**2 for w, h in sizes)
        assert some.noised(step) == count
        assert lengths == ({1} if turns == "joined" else {1, 2})


def test_tokens_of_an_example_by_hand():
    shape = Shape(((128, 128),), ((128, 64), (96, 96)), (3, 5))
    clean = (16 + 2) + (4 * 2 + 2)  # the source, and the first turn's picture
    vit = (16 + 2) + (4 * 2 + 2)
    assert token_counts(shape, CONFIG) == (clean + vit + 5 + 7 + (8 + 2) + (9 + 2), 8 + 9)


def test_dropout_is_the_same_whoever_asks_and_new_in_each_epoch():
    one, other = batches(), batches()
    kinds = [[kind for kind, _ in p.parts] for pick in one.batch(4) for p in one.plans(pick)]
    assert kinds == [[kind for kind, _ in p.parts] for pick in other.batch(4) for p in other.plans(pick)]
    joined = batches(turns="joined")  # so that nothing but dropout differs
    epochs = [joined.pick(slot) for slot in range(1500) if joined.mix[slot] == (1, 5)]
    assert len({str([[k for k, _ in p.parts] for p in joined.plans(pick)]) for pick in epochs}) > 1


def test_a_process_without_samples_gets_one_that_counts_nothing():
    some = batches(Batch(samples=3, device_tokens=1000))
    ranks = [some.deal(0, 8, rank) for rank in range(8)]
    assert sum(pick.weight for passes in ranks for one in passes for pick in one) == 3
    smallest = min(some.batch(0), key=lambda pick: pick.tokens)
    assert [passes for passes in ranks if not passes[0][0].weight] == [[[replace(smallest, weight=0.0)]]] * 5


def test_processes_get_nearly_equal_loads():
    some = batches(Batch(samples=200, device_tokens=2000))
    loads = [sum(p.tokens for one in some.deal(0, 4, rank) for p in one) for rank in range(4)]
    assert max(loads) - min(loads) < 40


def test_bins():
    sized = [Pick(i, i, 0, i, True, tokens, 1) for i, tokens in enumerate((5, 9, 4, 2, 30))]
    assert [[p.tokens for p in one] for one in packed(sized, 10)] == [[30], [9], [5, 4], [2]]
    assert [[p.tokens for p in one] for one in spread(sized, 2)] == [[30], [5, 9, 4, 2]]


def test_a_second_stage_draws_other_numbers_than_the_first():
    """With the same seed and sets: order, epochs, turns, dropout, the cache's slots, times and noise."""
    cache = {"cache": Cache("rolling", samples=10, chunks=3, renew=2)}

    def drawn(name: str):
        some = batches(name=name)
        picks = [some.pick(slot) for slot in range(200)]
        yield [pick.which for pick in picks]
        yield [pick.index for pick in picks if pick.which == 1]
        yield [some._joins(slot) for slot in range(100)]
        yield [pick.slot for pick in batches(name=name, **cache).batch(0)]
        yield some.key(0, picks[0], 0)

    for first, second, again in zip(drawn("first"), drawn("second"), drawn("first"), strict=True):
        assert first == again
        assert first != second
    picks, kinds = batches(turns="joined").batch(0), set()
    for name in ("first", "second"):
        some = batches(name=name, turns="joined")
        kinds.add(str([[kind for kind, _ in plan.parts] for pick in picks for plan in some.plans(pick)]))
    assert len(kinds) == 2
