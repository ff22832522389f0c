"""The nano's world as examples: each depends on its number alone, edits are edits, a chain goes on from its picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lightbagel_core.training.data.world_set import WorldSet, picture
from lightbagel_core.world.reader import read_scene


def test_an_example_depends_on_seed_and_number_alone():
    one, other = WorldSet(3, 0.5, 0.5), WorldSet(3, 0.5, 0.5)
    backwards = [other[i] for i in reversed(range(20))][::-1]
    for i, expected in enumerate(backwards):
        found = one[i]
        assert [turn.text for turn in found.turns] == [turn.text for turn in expected.turns]
        for a, b in zip(found.sources, expected.sources, strict=True):
            assert np.array_equal(a, b)
    texts = {tuple(turn.text for turn in some[i].turns) for some in (WorldSet(3), WorldSet(4)) for i in range(40)}
    assert len(texts) > 60
    assert WorldSet(3)[0].turns[0].text != WorldSet(3, number=1)[0].turns[0].text


def test_shares_and_shapes():
    world = WorldSet(1, edits=0.6, chains=0.25)
    shapes = [world.shape(i) for i in range(4000)]
    edits = [shape for shape in shapes if shape.sources]
    assert len(edits) / len(shapes) == pytest.approx(0.6, abs=0.03)
    assert sum(len(shape.targets) == 2 for shape in edits) / len(edits) == pytest.approx(0.25, abs=0.03)
    for i in range(30):
        example, shape = world[i], shapes[i]
        assert tuple(s.size for s in example.sources) == shape.sources
        assert tuple(turn.target.size for turn in example.turns) == shape.targets
    with pytest.raises(ValueError, match=r"edits is a share in 0\.\.1, not 1\.5"):
        WorldSet(1, 1.5)


def test_the_second_turn_of_a_chain_changes_the_picture_of_the_first():
    world = WorldSet(2, edits=1.0, chains=1.0)
    for i in range(60):
        story = world.story(i)
        scenes = [story.source, *(scene for _, scene in story.turns)]
        assert len(scenes) == 3
        for before, after in pairwise(scenes):
            assert before != after
            kept = {t.attributes for t in before.things} & {t.attributes for t in after.things}
            assert len(kept) >= max(len(before.things), len(after.things)) - 1
    assert read_scene(np.asarray(picture(scenes[2]))).attributes == scenes[2].attributes


def test_a_set_that_is_cut_short_is_the_same_as_far_as_it_goes():
    whole, cut = WorldSet(1), WorldSet(1, first=3)
    assert whole.count is None
    assert cut.count == 3
    assert [cut.story(i) for i in range(3)] == [whole.story(i) for i in range(3)]


def test_stages_share_the_first_examples_and_those_of_a_set_with_an_end():
    one, other = (WorldSet(1, own=own, shared=2) for own in (5, 6))
    assert (
        [one.story(i) for i in range(2)] == [other.story(i) for i in range(2)] == [WorldSet(1).story(i) for i in (0, 1)]
    )
    assert [one.story(i) for i in range(2, 9)] != [other.story(i) for i in range(2, 9)]
    assert one.identity != other.identity
    one, other = (WorldSet(1, first=9, own=own) for own in (5, 6))
    assert [one.story(i) for i in range(9)] == [other.story(i) for i in range(9)]
    assert one.identity == other.identity
