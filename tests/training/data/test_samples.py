"""From examples to samples: which segments stay, in which order, and what the turns of a chain share."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from lightbagel_core.model.sequence import ImageSegment, TextSegment
from lightbagel_core.training.data.example import Example, Turn
from lightbagel_core.training.data.samples import Plan, Sample, joined, plan, thoughts_joined
from lightbagel_core.training.stages import Dropout

ALL, HALF = Dropout(text=0, clean=0, vit=0), Dropout(text=0.5, clean=0.5, vit=0.5)
A, B, C, D = (Image.new("RGB", (8, 8)) for _ in range(4))  # known by being the same object
NAMES = {id(picture): name for name, picture in zip("ABCD", (A, B, C, D), strict=True)}
EDIT = Example((A, B), (Turn("swap them", C),))
CHAIN = Example((A,), (Turn("make it green", B), Turn("make it blue", C), Turn("make it white", D)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def parts(found: Plan) -> list[str]:
    return [f"{kind} {NAMES.get(id(what), what)}" for kind, what in found.parts]


def test_each_source_stands_as_clean_then_vit_and_the_text_after_them():
    (found,) = plan(EDIT, ALL, rng())
    assert parts(found) == ["clean A", "vit A", "clean B", "vit B", "text swap them"]
    assert found.target is C
    assert found.edit
    (drawing,) = plan(Example((), (Turn("a circle", D),)), ALL, rng())
    assert parts(drawing) == ["text a circle"]
    assert drawing.target is D
    assert not drawing.edit


def test_a_thought_is_a_text_of_its_own_behind_the_instruction_or_in_one_with_it():
    thinks = Example((A,), (Turn("make it green", B), Turn("swap them?", C, "a green circle")))
    _, found = plan(thinks, ALL, rng())
    assert parts(found)[-2:] == ["text swap them?", "text a green circle"]
    first, last = plan(thoughts_joined(thinks), ALL, rng())
    assert parts(last)[-1] == "text swap them. a green circle"
    assert parts(first)[-1] == "text make it green"
    lost = [parts(plan(thinks, Dropout(text=0.5, clean=0, vit=0), rng(seed))[1]) for seed in range(400)]
    assert np.mean(["text a green circle" not in one for one in lost]) == pytest.approx(0.5, abs=0.08)


def test_whole_segments_are_dropped_each_on_its_own_at_the_stated_rates():
    """Of 20,000 edits of two sources; three deviations of a rate's mean are 0.011."""
    draws, rates = rng(), Dropout(text=0.1, clean=0.2, vit=0.5, empty=0.25)
    segments = ["clean A", "vit A", "clean B", "vit B", "text swap them", "text "]
    found = [parts(plan(EDIT, rates, draws)[0]) for _ in range(20000)]
    lost = np.array([[segment not in one for segment in segments] for one in found])
    assert lost.mean(0) == pytest.approx([0.2, 0.5, 0.2, 0.5, 0.1, 1 - 0.1 * 0.25], abs=0.011)
    for i, j in combinations(range(5), 2):
        assert (lost[:, i] & lost[:, j]).mean() == pytest.approx(lost[:, i].mean() * lost[:, j].mean(), abs=0.011)
    assert np.mean([one == [] for one in found]) == pytest.approx(0.2 * 0.5 * 0.2 * 0.5 * 0.1 * 0.75, abs=0.0006)


def test_the_same_draws_give_the_same_samples():
    found = [[parts(p) for p in plan(CHAIN, HALF, rng(seed))] for seed in range(20)]
    assert found == [[parts(p) for p in plan(CHAIN, HALF, rng(seed))] for seed in range(20)]
    assert len({str(one) for one in found}) > 10


def test_a_chain_gives_a_sample_for_each_turn_which_begins_with_what_the_former_held():
    one, two, three = plan(CHAIN, ALL, rng())
    assert parts(one) == ["clean A", "vit A", "text make it green"]
    assert parts(two) == [*parts(one), "clean B", "vit B", "text make it blue"]
    assert parts(three) == [*parts(two), "clean C", "vit C", "text make it white"]
    assert [NAMES[id(p.target)] for p in (one, two, three)] == ["B", "C", "D"]
    assert all(p.edit for p in (one, two, three))


def test_what_a_turn_lost_is_lost_to_the_later_ones():
    draws = rng()
    for _ in range(100):
        for earlier, later in pairwise(plan(CHAIN, HALF, draws)):
            assert parts(later)[: len(earlier.parts)] == parts(earlier)


def test_a_first_picture_drawn_from_words_is_no_edit_but_what_follows_is():
    found = plan(Example((), CHAIN.turns[:2]), ALL, rng())
    assert [p.edit for p in found] == [False, True]
    assert parts(found[1]) == ["text make it green", "clean B", "vit B", "text make it blue"]


def test_a_chain_joined_is_one_instruction_and_the_last_picture():
    found = joined(
        Example((A,), (Turn("make it green.", B), Turn("can you make it blue?", C), Turn("make it white.", D)))
    )
    (turn,) = found.turns
    assert turn.text == "make it green, can you make it blue, make it white."
    assert turn.target is D
    assert found.sources == (A,)
    assert joined(EDIT) is EDIT


def test_a_long_samples_layout_is_not_kept_with_it():
    """Its mask has a byte for each pair of tokens: those of a rolling cache would fill the computer's memory."""
    sample = Sample((TextSegment(600), ImageSegment("noised", 2, 2)), [], torch.zeros(48, 4, 4), False)
    assert sample.layout is not sample.layout
    assert sample.tokens == len(sample.layout.und) == 606
