"""What a step holds, against the paper's own figures and sets whose shapes are known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.training.config_file import read
from lightbagel_core.training.data.batches import Batches
from lightbagel_core.training.data.example import Shape
from lightbagel_core.training.data.sets import set_names
from lightbagel_core.training.data.world_set import WorldSet
from lightbagel_core.training.planning.portions import LOOKED_AT, portions
from lightbagel_core.training.stages import Batch, Data, DataSet, Dropout, Stage

CONFIG = read_config(PUBLISHED)


def test_the_papers_batches():
    """32 sequences of 16,384 tokens, 36.7 G tokens over the paper's 70 k steps; shares of text to image as it says."""
    found = [portions(stage, CONFIG) for stage in read("paper")]
    assert [round(f.tokens) for f in found] == [32 * 16384] * 3
    assert [f.shares[0].samples for f in found] == pytest.approx([0.925, 0.879, 0.549])
    assert all(f.packed and all(share.assumed for share in f.shares) for f in found)
    assert found[0].passes(read("paper")[0], 32) == 1
    assert found[0].passes(read("paper")[0], 8) == 4


class Wide:
    """Examples of one known shape."""

    count, identity = 3, "wide"

    def shape(self, index: int) -> Shape:
        return Shape((), ((1024, 512),), (20,))

    def __getitem__(self, index: int):
        raise AssertionError("no picture needs to be read")


def test_opened_sets_are_counted_by_their_shapes():
    sets = (DataSet(name="a", weight=3), DataSet(name="b", weight=1))
    stage = Stage(batch=Batch(samples=8), data=Data(sets), dropout=Dropout(0, 0, 0))
    found = portions(stage, CONFIG, [Wide(), Wide()])
    assert found.mean == found.whole
    assert (found.mean.noised, found.mean.und, found.samples, found.packed) == (512, 24, 8, False)
    assert found.tokens == pytest.approx(8 * 536)
    assert [(s.samples, s.tokens, s.count, s.assumed) for s in found.shares] == [
        (0.75, 0.75, 3, False),
        (0.25, 0.25, 3, False),
    ]
    mixed = portions(replace(stage, dropout=Dropout()), CONFIG, [Wide()])
    assert mixed.packed is True
    assert [s.assumed for s in mixed.shares] == [False, True]


def test_sets_are_called_as_everywhere():
    """Two that would be called alike have a number each."""
    stage = Stage(data=Data((DataSet(), DataSet(edits=0))))
    assert [share.name for share in portions(stage, CONFIG).shares] == set_names(stage) == ["world 0", "world 1"]


@pytest.mark.parametrize("turns", ["chain", "mixed", "joined"])
def test_a_step_of_chains_holds_what_batches_fill_it_with(turns):
    """What the turns of a chain share is there once, and the same chains are joined."""
    stage = Stage(batch=Batch(samples=8), data=Data((DataSet(edits=1.0, chains=1.0),), turns=turns))
    world = WorldSet(stage.seed, edits=1.0, chains=1.0)
    batches = Batches([world], stage, CONFIG)
    picks = [batches.pick(slot) for slot in range(LOOKED_AT)]
    found = portions(stage, CONFIG, [world])
    assert found.tokens == pytest.approx(8 * sum(pick.tokens for pick in picks) / LOOKED_AT)
    noised = 8 * sum(pick.noised for pick in picks) / LOOKED_AT
    assert found.whole.noised * found.samples == pytest.approx(noised)
