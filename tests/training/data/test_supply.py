"""A process's part of a step: its samples with what their noise is drawn from, and what stands in counts nothing."""

from __future__ import annotations

import threading
from itertools import chain

import pytest
import torch

from lightbagel_core.config import NANO
from lightbagel_core.files.formats import read_config
from lightbagel_core.training.data.batches import Batches
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.data.sets import open_sets, set_names
from lightbagel_core.training.data.supply import Supply
from lightbagel_core.training.stages import Batch, Data, DataSet, Stage

LATENTS = torch.zeros(48, 6, 6)


def supply(size: int = 1, rank: int = 0, samples: int = 7, tokens: int = 20480, steps: int = 9, **more) -> Supply:
    data = Data((DataSet(edits=1.0, chains=1.0),), turns="chain")
    stage = Stage(batch=Batch(samples=samples, device_tokens=tokens), data=data)
    batches = Batches(open_sets(stage), stage, read_config(NANO / "config.json"))

    def samples_of(picks):
        return [[Sample((), (pick.slot, turn), LATENTS, True) for turn in range(2)] for pick in picks]

    return Supply(batches, samples_of, set_names(stage), steps, size, rank, **more)


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
    assert given.noised(0) == 7 * 2 * 9
    assert given.named(0) == [f"world {pick.index}" for pick in given.batches.batch(0)]
    assert given.tokens(0) == sum(pick.tokens for pick in given.batches.batch(0)) > given.noised(0)


def test_what_a_step_needs_is_made_before_it_is_asked_for():
    said = []
    given = supply()
    given.prepare = said.append
    before = given.samples_of
    given.samples_of = lambda picks: said.append("asked") or before(picks)
    given.passes(5)
    assert said == [5]
    list(given.passes(6))
    assert said == [5, 6, "asked"]


def told(given: Supply, said: list, fails=lambda picks: False) -> Supply:
    """Notes in which thread the samples of which slots are read; some cannot be read."""
    true = given.samples_of

    def samples_of(picks):
        said.append((threading.current_thread() is threading.main_thread(), [pick.slot for pick in picks]))
        if fails(picks):
            raise ValueError(f"slot {picks[0].slot} is damaged")
        return true(picks)

    given.samples_of = samples_of
    return given


def test_a_pass_is_read_when_it_is_reached():
    said: list = []
    given = told(supply(tokens=260), said)
    passes = given.passes(0)
    assert len(passes) > 2
    for number, _ in enumerate(passes, start=1):
        assert len(said) == number
    assert all(main for main, _ in said)


def test_the_next_pass_is_read_in_a_thread_and_nothing_is_read_between_steps():
    said: list = []
    plain, given = supply(tokens=260), told(supply(tokens=260, ahead=True), said)
    for step in range(2):
        found = [[(part.key, part.sample.contents) for part in parts] for parts in given.passes(step)]
        assert found == [[(part.key, part.sample.contents) for part in parts] for parts in plain.passes(step)]
        count = sum(len(given.dealt(s)) for s in range(step + 1))
        assert len(said) == count + 1  # and the first pass of the next step
        assert given._reading.done()
    assert [main for main, _ in said] == [True, *[False] * (len(said) - 1)]
    resumed: list = []
    later = told(supply(tokens=260, ahead=True), resumed)
    list(later.passes(1))
    assert resumed[0] == (True, said[len(given.dealt(0))][1])


def test_nothing_is_read_for_a_step_that_does_not_come():
    said: list = []
    given = told(supply(tokens=260, steps=2, ahead=True), said)
    for step in range(2):
        list(given.passes(step))
    asked = [[pick.slot for pick in picks] for step in range(2) for picks in given.dealt(step)]
    assert [slots for _, slots in said] == asked


def test_what_cannot_be_read_is_said_at_the_step_that_needs_it():
    given = supply(ahead=True)
    damaged = given.batches.batch(1)[3].slot
    told(given, [], lambda picks: damaged in [pick.slot for pick in picks])
    list(given.passes(0))
    for _ in range(2):
        with pytest.raises(ValueError, match="is damaged"):
            list(given.passes(1))
    list(given.passes(2))
