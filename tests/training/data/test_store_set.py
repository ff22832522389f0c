"""A store as examples: what counts several times is as many examples, and is held out as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from prepared_rows import stored, write_store

from lightbagel_core.training.data.sets import about, identity, open_sets, order, split
from lightbagel_core.training.data.store_set import StoreSet
from lightbagel_core.training.planning.portions import portions
from lightbagel_core.training.stages import Data, DataSet, Stage, Validation


@pytest.fixture
def folder(tmp_path):
    rows = [stored(n, repeats=1 + 2 * (n in (3, 4)) + (n == 7), sources=n % 3, turns=1 + n % 2) for n in range(12)]
    write_store(tmp_path / "store", rows[:5], rows[5:])
    return tmp_path / "store"


@pytest.fixture
def stage(folder):
    return Stage(data=Data((DataSet("store", path=str(folder)),)), validation=Validation(held_out=4))


def test_examples_are_the_rows_in_order_each_as_often_as_it_counts(folder):
    examples = StoreSet(folder)
    expected = [0, 1, 2, 3, 3, 3, 4, 4, 4, 5, 6, 7, 7, 8, 9, 10, 11]
    assert examples.count == len(expected)
    assert examples.rows(np.arange(examples.count)).tolist() == expected
    for index, row in enumerate(expected):
        example, shape = examples[index], examples.shape(index)
        assert [turn.text for turn in example.turns] == [f"text {row}.{turn}" for turn in range(1 + row % 2)]
        assert len(example.sources) == row % 3
        assert shape.sources == tuple(picture.size for picture in example.sources)
        assert shape.targets == tuple(turn.target.size for turn in example.turns)
        assert shape.words == tuple(-(-len(turn.text) // 4) for turn in example.turns)
        assert example.turns[0].target.getpixel((0, 0)) == (row + row % 3, 0, 0)


def test_what_is_held_out_is_in_no_other_place(stage):
    (whole,) = open_sets(stage)
    (trained,), (held,) = split([whole], stage)
    apart = {held[i].turns[0].text for i in range(held.count)}
    assert held.count == len(apart) == 4
    left = [trained[i].turns[0].text for i in range(trained.count)]
    assert not apart & set(left)
    assert len(apart | set(left)) == 12
    assert len(left) == sum(1 for i in range(whole.count) if whole[i].turns[0].text not in apart)
    with pytest.raises(ValueError, match="would take 12 of the 12 examples"):
        split([whole], Stage(data=stage.data, validation=Validation(held_out=12)))


def test_another_store_is_another_identity_and_another_place_is_not(folder, stage, tmp_path):
    before = StoreSet(folder).identity
    assert identity(open_sets(stage)) == order(open_sets(stage))
    moved = folder.rename(tmp_path / "moved")
    assert StoreSet(moved).identity == before
    write_store(tmp_path / "other", [stored(n) for n in range(12)])
    assert StoreSet(tmp_path / "other").identity != before


def test_what_a_store_says_of_its_sets_is_said_of_what_is_trained_on_them(stage):
    (whole,) = open_sets(stage)
    manifest = whole.store.manifest
    (one,) = manifest.sets
    other = replace(one, name="other", source="", licence="")  # of which nothing is known
    whole.store.manifest = replace(manifest, sets=(one, other))
    (said,) = about([whole], stage)
    known = {"name": one.name, "count": one.examples, "source": "my own", "licence": "cc0-1.0"}
    assert said.pop("sets") == [known, {"name": "other", "count": one.examples}]
    assert said == {"name": "store", "kind": "store", "count": 17, "weight": 1.0}


def test_the_dry_run_counts_what_a_store_holds(stage):
    from lightbagel_core.config import NANO
    from lightbagel_core.files.formats import read_config

    config = read_config(NANO / "config.json")
    (share,) = portions(stage, config, open_sets(stage)).shares
    assert (share.count, share.assumed) == (17, False)
    assert portions(stage, config).packed
    assert portions(stage, config).shares[0].assumed


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    from dataclasses import replace

    write_store(tmp_path, [stored(0), replace(stored(1), targets=(b"no picture",))])
    with pytest.raises(ValueError, match=r"rows-00000.arrow, row 1 \(row 1\) is not an image"):
        StoreSet(tmp_path)[1]
    write_store(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no rows to learn from"):
        StoreSet(tmp_path / "none")
