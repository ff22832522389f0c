"""A process's part of a step: its samples with what their noise is drawn from, and what stands in counts nothing."""

from __future__ import annotations

from itertools import chain

import torch

from lightbagel_core.config import NANO
from lightbagel_core.files.formats import read_config
from lightbagel_core.training.data.batches import Batches
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.data.sets import open_sets, set_names
from lightbagel_core.training.data.supply import Supply
from lightbagel_core.training.stages import Batch, Data, DataSet, Stage

LATENTS = torch.zeros(48, 8, 8)


def supply(size: int = 1, rank: int = 0, samples: int = 7) -> Supply:
    stage = Stage(batch=Batch(samples=samples), data=Data((DataSet(edits=1.0, chains=1.0),), turns="chain"))
    batches = Batches(open_sets(stage), stage, read_config(NANO / "config.json"))

    def samples_of(picks):
        return [[Sample((), (pick.slot, turn), LATENTS, True) for turn in range(2)] for pick in picks]

    return Supply(batches, samples_of, set_names(stage), size, rank)


def test_all_processes_together_have_the_batch_once_with_the_same_noise():
    alone = {part.key: part.sample.contents for part in chain(*supply().passes(3))}
    assert len(alone) == 14  # of each chain both turns
    both = [part for rank in range(2) for part in chain(*supply(2, rank).passes(3))]
    assert {part.key: part.sample.contents for part in both if part.weight} == alone
    assert sum(1 for part in both if part.weight) == 14


def test_a_process_with_nothing_left_gets_what_counts_nothing():
    passes = [supply(3, rank, samples=2).passes(0) for rank in range(3)]
    assert [len(each) for each in passes] == [1, 1, 1]
    weights = sorted(tuple(part.weight for part in each[0]) for each in passes)
    assert weights == [(0.0, 0.0), (1.0, 1.0), (1.0, 1.0)]


def test_what_is_told_of_a_step():
    given = supply()
    assert given.noised(0) == 7 * 2 * 16
    assert given.named(0) == [f"world {pick.index}" for pick in given.batches.batch(0)]
    assert given.tokens(0) == sum(pick.tokens for pick in given.batches.batch(0)) > given.noised(0)


def test_what_a_step_needs_is_made_before_it_is_asked_for():
    said = []
    given = supply()
    given.prepare = said.append
    before = given.samples_of
    given.samples_of = lambda picks: said.append("asked") or before(picks)
    given.passes(5)
    assert said == [5, "asked"]
