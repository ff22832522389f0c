"""The nano's world as examples: each depends on its number alone, edits are edits, a chain goes on from its picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lightbagel_core.training.data.world_set import WorldSet
from lightbagel_core.world.reader import read_scene
from lightbagel_core.world.sentence_reader import scene_of_sentence


def test_an_example_depends_on_seed_and_number_alone():
    one, other = WorldSet(3, 0.5, 0.5, 0.3), WorldSet(3, 0.5, 0.5, 0.3)
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
    world = WorldSet(1, edits=0.6, chains=0.25, pairs=0.15)
    shapes = [world.shape(i) for i in range(4000)]
    edits = [shape for shape in shapes if shape.sources]
    assert len(edits) / len(shapes) == pytest.approx(0.6, abs=0.03)
    assert sum(len(shape.targets) == 2 for shape in edits) / len(edits) == pytest.approx(0.25, abs=0.03)
    assert sum(len(shape.sources) == 2 for shape in edits) / len(edits) == pytest.approx(0.15, abs=0.03)
    for i in range(30):
        example, shape = world[i], shapes[i]
        assert tuple(s.size for s in example.sources) == shape.sources
        assert tuple(turn.target.size for turn in example.turns) == shape.targets
    with pytest.raises(ValueError, match=r"edits is a share in 0\.\.1, not 1\.5"):
        WorldSet(1, 1.5)
    with pytest.raises(ValueError, match=r"pairs is a share in 0\.\.1, not -0\.1"):
        WorldSet(1, pairs=-0.1)
    with pytest.raises(ValueError, match=r"together 1 at most, not 1\.25"):
        WorldSet(1, chains=0.75, pairs=0.5)
    with pytest.raises(ValueError, match=r"together 1 at most, not 1\.5"):
        WorldSet(1, chains=0.5, pairs=0.5, others=0.5)


def test_without_pairs_there_are_none_and_with_all_nothing_else():
    assert max(len(WorldSet(1, edits=1.0).shape(i).sources) for i in range(300)) == 1
    shapes = [WorldSet(1, edits=1.0, pairs=1.0).shape(i) for i in range(30)]
    assert {(len(shape.sources), len(shape.targets)) for shape in shapes} == {(2, 1)}


def test_a_share_of_edits_has_a_thought_that_says_what_is_wanted():
    world = WorldSet(1, edits=0.7, chains=0.2, thoughts=0.5)
    edits = [world[i] for i in range(300) if world.shape(i).sources]
    thoughts = [(example.turns[-1].thought, example.turns[-1].target) for example in edits]
    assert sum(bool(thought) for thought, _ in thoughts) / len(edits) == pytest.approx(0.5, abs=0.12)
    for thought, target in thoughts:
        assert thought == "" or scene_of_sentence(thought).attributes == read_scene(np.asarray(target)).attributes
    assert not any(turn.thought for i in range(300) if not world.shape(i).sources for turn in world[i].turns)
    assert not any(turn.thought for i in range(100) for turn in world[i].turns[:-1])


def test_sets_with_other_shares_are_told_apart():
    sets = [WorldSet(1, *shares) for shares in ((0.6, 0.1, 0.2), (0.6, 0.2, 0.1), (0.6, 0.1, 0.1), (0.5, 0.1, 0.2))]
    assert len({each.identity for each in sets}) == 4


def test_the_second_turn_of_a_chain_changes_the_picture_of_the_first():
    world = WorldSet(2, edits=1.0, chains=1.0)
    for i in range(60):
        story, example = world.told(i)[0], world[i]
        scenes = [*story.sources, *(turn.target for turn in story.turns)]
        assert len(scenes) == 3
        for (before, after), turn in zip(pairwise(scenes), story.turns, strict=True):
            assert before != after
            if turn.changes:
                named = {change.place for change in turn.changes}
                assert {t for t in before.things if t.place not in named} <= set(after.things)
            else:
                assert after == scenes[0]
        shown = [*example.sources, *(turn.target for turn in example.turns)]
        assert [turn.text for turn in example.turns] == [turn.words for turn in story.turns]
        for scene, image in zip(scenes, shown, strict=True):
            assert read_scene(np.asarray(image)) == scene


def test_a_set_that_is_cut_short_is_the_same_as_far_as_it_goes():
    whole, cut = WorldSet(1), WorldSet(1, first=3)
    assert whole.count is None
    assert cut.count == 3
    assert [cut.told(i) for i in range(3)] == [whole.told(i) for i in range(3)]


def test_stages_share_the_first_examples_and_those_of_a_set_with_an_end():
    one, other = (WorldSet(1, own=own, shared=2) for own in (5, 6))
    assert [one.told(i) for i in range(2)] == [other.told(i) for i in range(2)] == [WorldSet(1).told(i) for i in (0, 1)]
    assert [one.told(i) for i in range(2, 9)] != [other.told(i) for i in range(2, 9)]
    assert one.identity != other.identity
    one, other = (WorldSet(1, first=9, own=own) for own in (5, 6))
    assert [one.told(i) for i in range(9)] == [other.told(i) for i in range(9)]
    assert one.identity == other.identity
