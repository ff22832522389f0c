"""The row of slots: exact shares, exact epochs, each slot a function of the seed and its number."""

from __future__ import annotations

from collections import Counter

import pytest

from lightbagel_core.training.data.mix import BLOCK, Mix


def test_shares_are_exact_within_a_block_and_small_sets_are_not_lost():
    mix = Mix([925, 70, 5, 1e-9], [None, None, None, None], seed=3)
    for block in range(2):
        taken = Counter(mix[block * mix.block + at][0] for at in range(mix.block))
        assert (taken[0], taken[1], taken[2], taken[3]) == (925, 70, 5, 1)
    assert mix.block == BLOCK + 1


def test_every_example_comes_before_any_comes_again():
    mix = Mix([2, 1], [None, 70], seed=1)
    numbers = [index for which, index in map(mix.__getitem__, range(3000)) if which == 1]
    epochs = [numbers[start : start + 70] for start in range(0, 700, 70)]
    assert all(sorted(epoch) == list(range(70)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 10
    endless = [index for which, index in map(mix.__getitem__, range(3000)) if which == 0]
    assert endless == list(range(len(endless)))


def test_a_slot_depends_on_seed_and_number_alone():
    forwards, backwards = Mix([1, 1], [9, None], seed=5), Mix([1, 1], [9, None], seed=5)
    slots = range(0, 9000, 41)
    there = [forwards[slot] for slot in slots]
    assert there == [backwards[slot] for slot in reversed(slots)][::-1]
    assert there != [Mix([1, 1], [9, None], seed=6)[slot] for slot in slots]


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="a set of examples is empty"):
        Mix([1, 1], [3, 0], seed=1)
