"""A stage's sets are opened in order; what is held out is never trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from lightbagel_core.training.data.sets import about, identity, left_out, open_sets, set_names, split
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
    assert first.told(0) != last.told(0)


def test_held_out_examples_are_not_trained_on(stage):
    trained, held = split(open_sets(stage), stage)
    assert [part.count for part in held] == [2, 2, 2]
    texts = {trained[1][i].turns[0].text for i in range(trained[1].count)}
    apart = {held[1][i].turns[0].text for i in range(2)}
    assert not texts & apart
    assert texts | apart == {f"text {i}" for i in range(12)}
    world = open_sets(stage)[0]
    assert trained[0].count is None
    assert [trained[0][i].turns[0].text for i in range(3)] == [world[2 + i].turns[0].text for i in range(3)]
    assert [held[0][i].turns[0].text for i in range(2)] == [world[i].turns[0].text for i in range(2)]
    again, _ = split(open_sets(replace(stage, seed=9)), replace(stage, seed=9))
    assert texts == {again[1][i].turns[0].text for i in range(again[1].count)}


def test_a_set_is_not_held_out_whole(stage):
    with pytest.raises(ValueError, match="of the 12 examples of mine"):
        split(open_sets(stage), replace(stage, validation=Validation(held_out=40)))


def test_without_held_out_examples_all_are_trained_on(stage):
    trained, held = split(open_sets(stage), replace(stage, validation=Validation()))
    assert [part.count for part in held] == [0, 0, 0]
    assert trained[1].count == 12


def test_a_text_that_changes_or_is_held_out_makes_another_identity(stage, tmp_path):
    def told(some):
        return identity(split(open_sets(some), some)[0])

    whole = replace(stage, validation=Validation())
    seen = {told(stage), told(whole), told(replace(whole, seed=2))}
    assert told(whole) in seen
    (tmp_path / "3.txt").write_text("another text", "utf-8")
    assert len({*seen, told(whole)}) == 4


def test_what_one_stage_holds_out_no_other_stage_trains_on(stage):
    """Whatever its weights; and of a set without end a later stage sees examples that no other has seen."""
    sets = tuple(replace(asked, weight=weight) for asked, weight in zip(stage.data.sets, (1, 90, 5), strict=True))
    later = replace(stage, name="later", data=Data(sets))
    (first, held), (second, also_held) = (split(open_sets(some), some) for some in (stage, later))
    for one, other in zip(held, also_held, strict=True):
        assert [one[i].turns[0].text for i in range(2)] == [other[i].turns[0].text for i in range(2)]
    assert [first[1][i].turns[0].text for i in range(10)] == [second[1][i].turns[0].text for i in range(10)]
    seen = [{part[0][i].turns[0].text for i in range(50)} for part in (first, second)]
    assert len(seen[0] & seen[1]) < 10  # texts of few words come twice by chance


def test_an_identity_is_short_however_large_the_set(stage):
    assert all(len(part.identity) < 300 for part in split(open_sets(stage), stage)[0])
    large = replace(stage, data=Data((DataSet(first=100_000),)), validation=Validation(held_out=3))
    (part,), (held,) = split(open_sets(large), large)
    assert part.count == 99_997
    assert len(part.identity) < 300
    assert part.identity != held.identity


def test_how_many_examples_are_left_out_is_said(stage, tmp_path):
    assert left_out(open_sets(stage), stage) == []
    for i in range(7):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    (said,) = left_out(open_sets(stage), stage)
    assert said.startswith("7 of the 12 examples of mine are left out: ")
    assert said.endswith("4.png is not an image this can read; convert it to PNG or JPEG; and 2 more")


def test_what_is_said_of_sets_names_no_folder_of_a_persons(stage, tmp_path):
    first, mine, last = stage.data.sets
    sets = (first, replace(mine, name=None, source="https://a.b/c", licence="CC0"), last)
    stage = replace(stage, data=Data(sets))
    opened = open_sets(stage)
    opened[2].about = lambda: [{"name": "inner", "licence": "MIT"}]  # as a set says it that is made of several
    assert about(opened, stage) == [
        {"name": "world 0", "kind": "world", "count": None, "weight": 1},
        {
            "name": tmp_path.name,
            "kind": "folder",
            "count": 12,
            "weight": 2,
            "source": "https://a.b/c",
            "licence": "CC0",
        },
        {
            "name": "world 2",
            "kind": "world",
            "count": None,
            "weight": 1,
            "sets": [{"name": "inner", "licence": "MIT"}],
        },
    ]
