"""A stage's sets are opened in order; what is held out is never trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from lightbagel_core.training.data.sets import identity, open_sets, set_names, split
from lightbagel_core.training.stages import Data, DataSet, Stage, Validation


@pytest.fixture
def stage(tmp_path):
    for i in range(12):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"text {i}", "utf-8")
    sets = (DataSet(weight=1), DataSet("folder", 2, path=str(tmp_path), name="mine"), DataSet(weight=1, edits=0))
    return Stage(data=Data(sets), validation=Validation(held_out=6))


def test_sets_are_opened_in_order_and_have_names_of_their_own(stage):
    assert [examples.count for examples in open_sets(stage)] == [None, 12, None]
    assert set_names(stage) == ["world 0", "mine", "world 2"]
    first, _, last = open_sets(stage)
    assert first.story(0) != last.story(0)


def test_held_out_examples_are_not_trained_on(stage):
    trained, held = split(open_sets(stage), stage)
    assert len(held) == 6
    texts = {trained[1][i].turns[0].text for i in range(trained[1].count)}
    apart = {example.turns[0].text for example in held if example.turns[0].text.startswith("text")}
    assert apart
    assert not texts & apart
    assert texts | apart == {f"text {i}" for i in range(12)}
    world = open_sets(stage)[0]
    share = trained[0].numbers
    assert trained[0].count is None
    assert [trained[0][i].turns[0].text for i in range(3)] == [world[share + i].turns[0].text for i in range(3)]
    assert [example.turns[0].text for example in held[:share]] == [world[i].turns[0].text for i in range(share)]
    again, _ = split(open_sets(replace(stage, seed=9)), replace(stage, seed=9))
    assert texts == {again[1][i].turns[0].text for i in range(again[1].count)}


def test_a_set_is_not_held_out_whole(stage):
    with pytest.raises(ValueError, match="of the 12 examples of mine"):
        split(open_sets(stage), replace(stage, validation=Validation(held_out=40)))


def test_without_held_out_examples_all_are_trained_on(stage):
    trained, held = split(open_sets(stage), replace(stage, validation=Validation()))
    assert held == []
    assert trained[1].count == 12


def test_a_text_that_changes_or_is_held_out_makes_another_identity(stage, tmp_path):
    def told(some):
        return identity(split(open_sets(some), some)[0])

    whole = replace(stage, validation=Validation())
    seen = {told(stage), told(whole), told(replace(whole, seed=2))}
    assert told(whole) in seen
    (tmp_path / "3.txt").write_text("another text", "utf-8")
    assert len({*seen, told(whole)}) == 4
