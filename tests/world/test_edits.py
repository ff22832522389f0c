"""Edits of the nano's world: their words say what changes, and nothing else does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from instructions import as_set, asked, meant
from scenes import BLUE, PAIR, RED

from lightbagel_core.evaluation.suites.checks import judge
from lightbagel_core.world.arrangements import fits, gap, lies_between
from lightbagel_core.world.edits import (
    KINDS,
    SHARES,
    SINGLE,
    Change,
    Edit,
    Impossible,
    change_of,
    edit_of,
    random_edit,
    source_of,
)
from lightbagel_core.world.scenes import MOST, RELATION, Scene, Thing


@pytest.fixture(scope="module")
def edits() -> list[tuple[str, Edit]]:
    """Edits of each kind, of few things and of many."""
    rng = np.random.default_rng(7)
    each = [(kind, crowded) for kind in KINDS for crowded in (False, True) for _ in range(60)]
    return [(kind, random_edit(rng, kind, crowded)) for kind, crowded in each]


def at(scene: Scene) -> dict[str, Thing]:
    return {thing.place: thing for thing in scene.things}


def test_a_target_differs_only_where_its_changes_say(edits):
    for _, edit in edits:
        named = {change.place for change in edit.changes}
        before, after = at(edit.source), at(edit.target)
        assert {p for p in {*before, *after} if before.get(p) != after.get(p)} == named - {""}, edit.words
        assert (edit.source.background != edit.target.background) == ("" in named)
        assert len(named) == len(edit.changes)


def test_what_stays_in_its_place_stays_to_the_pixel(edits):
    for _, edit in edits:
        before, after = at(edit.source), at(edit.target)
        for place in before.keys() & after.keys():
            assert before[place].centre == after[place].centre


def test_the_target_is_judged_right_and_the_source_wrong(edits):
    for _, edit in edits:
        assert judge(edit.changes, edit.source, edit.target).right, edit.words
        nothing = judge(edit.changes, edit.source, edit.source)
        assert (nothing.done, nothing.kept) == (False, True), edit.words


def test_every_target_fits_and_nothing_touches(edits):
    for _, edit in edits:
        assert fits(edit.target)
        assert len(edit.target.things) <= MOST
        assert edit.target == edit.target.ordered()
    for _, edit in edits[::10]:
        assert all(gap(a, b) > 1 for a, b in combinations(edit.target.things, 2)), edit.words


def test_the_words_ask_for_the_changes(edits):
    """By another rule than the one that wrote them: they name one thing each, or all that are meant."""
    for _, edit in edits:
        called = {"it": edit.source.things[0].place} if len(edit.source.things) == 1 else {}
        assert asked(edit.words, edit.source, **called) == as_set(edit.changes), edit.words


def test_few_things_or_many(edits):
    for index, (_, edit) in enumerate(edits):
        crowded = bool(index // 60 % 2)
        assert (max(len(edit.source.things), len(edit.target.things)) > 2) == crowded, edit.words


def test_two_things_swapped_exchange_all_but_their_centres(edits):
    for edit in (edit for kind, edit in edits if kind == "swap"):
        a, b = (change.place for change in edit.changes)
        before, after = at(edit.source), at(edit.target)
        for here, there in ((a, b), (b, a)):
            assert after[here].attributes[:3] == before[there].attributes[:3]
            assert after[here].centre == before[here].centre


def test_a_moved_thing_is_the_same_elsewhere(edits):
    for edit in (edit for kind, edit in edits if kind == "move"):
        ((old,), (new,)) = (
            set(a.things) - set(b.things) for a, b in ((edit.source, edit.target), (edit.target, edit.source))
        )
        assert new.attributes[:3] == old.attributes[:3]
        assert new.place not in at(edit.source)
        assert edit.words.endswith(f" to the {new.place}")
        assert (new.dx, new.dy) == (0, 0)


def test_what_many_are_made_they_all_are(edits):
    """Those that were so already are no change, but there is one at least."""
    unchanged = 0
    for edit in (edit for kind, edit in edits if kind == "both" and edit.changes[0].kind != "remove"):
        ((name, value),) = edit.changes[0].wanted.items()
        places = {change.place for change in edit.changes}
        assert all(getattr(at(edit.target)[place], name) == value for place in places)
        unchanged += len(places) == 1
    assert unchanged > 5


def test_a_new_thing_beside_another_stands_where_the_words_say():
    rng, found = np.random.default_rng(0), Counter()
    for _ in range(400):
        edit = random_edit(rng, "add", crowded=False)
        words = next((word for word in RELATION.values() if f" {word} the " in edit.words), None)
        if words is not None:
            (beside,), (change,) = edit.source.things, edit.changes
            assert RELATION[change.place, beside.place] == words
            found[words] += 1
    assert set(found) == set(RELATION.values())


def test_one_thing_alone_may_be_called_it():
    rng = np.random.default_rng(0)
    edits = [random_edit(rng, "recolour", crowded=False) for _ in range(300)]
    called = [len(edit.source.things) for edit in edits if "it" in edit.words.split()]
    assert set(called) == {1}


def test_every_kind_comes_as_often_as_it_should():
    assert sum(SHARES) == pytest.approx(1)
    assert len(SHARES) == len(KINDS)
    rng, found = np.random.default_rng(1), Counter()
    for _ in range(1500):
        edit = random_edit(rng)
        kinds = [change.kind for change in edit.changes]
        found["one"] += len(kinds) == 1 and kinds[0] in SINGLE
        found["crowded"] += max(len(edit.source.things), len(edit.target.things)) > 2
    assert found["one"] / 1500 == pytest.approx(sum(SHARES[: len(SINGLE)]), abs=0.06)
    assert found["crowded"] / 1500 == pytest.approx(0.35, abs=0.05)


def test_of_three_in_a_row_the_middle_one_is_removed():
    rng = np.random.default_rng(2)
    edits = [random_edit(rng, "remove", crowded=True) for _ in range(200)]
    rows = [edit for edit in edits if any(lies_between(edit.source, t) for t in edit.source.things)]
    assert len(rows) > 60
    assert all(lies_between(edit.source, at(edit.source)[edit.changes[0].place]) for edit in rows)


def test_sources_are_as_crowded_as_asked():
    rng = np.random.default_rng(3)
    for kind in KINDS:
        few, many = ({len(source_of(rng, kind, crowded).things) for _ in range(60)} for crowded in (False, True))
        assert max(few) <= 2
        assert min(many) >= (2 if kind == "add" else 3)


def test_what_cannot_be_asked_of_a_scene_is_said():
    rng, empty = np.random.default_rng(1), Scene("white")
    for kind in ("remove", "recolour", "swap", "both", "move"):
        with pytest.raises(Impossible, match=r"there (is nothing|are no two things)|named already"):
            edit_of(rng, empty, kind)
    with pytest.raises(Impossible, match="named already"):
        change_of(rng, "remove", Scene("white", (RED,)), PAIR, ["left"])
    full = Scene("white", tuple(Thing("star", "red", "small", place) for place in ("left", "right", "top", "bottom")))
    for _ in range(20):
        with pytest.raises(Impossible, match=r"too many|nobody could see it"):
            edit_of(rng, full, "add")


def test_a_change_of_one_thing_leaves_its_place_and_the_others():
    green = Change("recolour", "left", {"colour": "green"})
    assert green.apply(PAIR) == replace(PAIR, things=(replace(RED, colour="green"), BLUE))
    assert Change("remove", "left", {}).apply(PAIR) == Scene("white", (BLUE,))
    assert Change("background", "", {"background": "grey"}).apply(PAIR) == replace(PAIR, background="grey")
    new = Change("add", "centre", {"shape": "star", "colour": "green"}).apply(PAIR)
    assert new.things == (Thing("star", "green", "small", "centre"), RED, BLUE)
    both = Edit(PAIR, "", (green, Change("replace", "left", {"shape": "star"})))
    assert both.target.things[0] == replace(RED, colour="green", shape="star")


def test_words_that_name_a_thing_hold_for_no_other(edits):
    """What the tests above read names by, on names made by hand."""
    twins = Scene("white", (RED, replace(RED, place="right"), replace(BLUE, place="top")))
    assert [t.place for t in meant("the circle", twins)] == ["left", "right"]
    assert [t.place for t in meant("the one on the right", twins)] == ["right"]
    assert [t.place for t in meant("the small one", twins)] == ["top"]
    assert meant("the star", twins) == []
