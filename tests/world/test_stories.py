"""What can be asked in turns: each turn's target is what its words make of the scene before."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from instructions import as_set, asked, meant, plainly
from scenes import BLUE, PAIR, RED

from lightbagel_core.evaluation.suites.checks import judge
from lightbagel_core.world.arrangements import fits
from lightbagel_core.world.edits import ATTRIBUTES, Change, Edit, Impossible, random_edit
from lightbagel_core.world.scenes import MOST, Scene
from lightbagel_core.world.stories import (
    FOLLOWING,
    ORDER,
    UNDO,
    Story,
    Turn,
    following,
    politely,
    random_chain,
    random_pair,
    random_story,
)

GREEN = Edit(PAIR, "make the circle green", (Change("recolour", "left", {"colour": "green"}),))
BARE = Edit(PAIR, "remove the circle", (Change("remove", "left", {}),))


def after(scene: Scene, changes: tuple[Change, ...]) -> Scene:
    for change in changes:
        scene = change.apply(scene)
    return scene


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    rng = np.random.default_rng(8)
    return [random_story(rng, 0.7, 0.4, 0.2, 0.15) for _ in range(1500)]


def test_shares(stories):
    edits = [story for story in stories if story.sources]
    assert len(edits) / len(stories) == pytest.approx(0.7, abs=0.04)
    assert np.mean([len(story.turns) == 2 for story in edits]) == pytest.approx(0.4, abs=0.04)
    assert np.mean([len(story.sources) == 2 for story in edits]) == pytest.approx(0.2, abs=0.04)
    assert all(len(story.turns) == 1 for story in stories if len(story.sources) != 1)
    alone = [story for story in edits if len(story.sources) == len(story.turns) == 1]
    other = [story for story in alone if "other one" in story.turns[0].words]
    assert len(other) / len(edits) == pytest.approx(0.15, abs=0.03)
    assert all(len(story.sources[0].things) == 2 for story in other)


def test_every_target_fits_and_is_another_scene(stories):
    for story in stories:
        scenes = [story.sources[story.edited]] if story.sources else []
        scenes += [turn.target for turn in story.turns]
        assert all(fits(scene) and len(scene.things) <= MOST for scene in scenes)
        assert all(a != b for a, b in pairwise(scenes))


def test_a_turns_changes_make_its_target_or_it_undoes_the_one_before(stories):
    undone = 0
    for story in stories:
        scene = story.sources[story.edited] if story.sources else None
        for turn in story.turns:
            if turn.changes and len(story.sources) == 1:
                assert after(scene, turn.changes) == turn.target, turn.words
            if turn.changes:
                assert judge(turn.changes, scene, turn.target).right, turn.words
                assert not judge(turn.changes, scene, scene).done
            elif scene is not None:
                assert turn is story.turns[1]
                assert plainly(turn.words) in UNDO
                assert turn.target == story.sources[0]
                undone += 1
            scene = turn.target
    assert undone > 50


@pytest.mark.parametrize("kind", FOLLOWING)
def test_what_follows_an_edit_says_what_it_changes(kind):
    """By another rule than the one that wrote it; only words without their articles cannot be read so."""
    rng, unread, its = np.random.default_rng(9), 0, 0
    for _ in range(900):
        edit = random_edit(rng)
        try:
            turn = following(rng, edit, kind)
        except Impossible:
            continue
        if kind == "undo":
            assert turn == Turn(turn.words, edit.source)
            assert turn.words in UNDO
            continue
        called = {"it": edit.target.things[0].place} if len(edit.target.things) == 1 else {}
        if kind in ("reference", "other"):
            here = edit.changes[-1].place
            others = [thing.place for thing in edit.target.things if thing.place != here]
            called = {"it": here} if kind == "reference" else {"other": others[0]}
            word = {"reference": "it", "other": "the other one"}[kind]
            assert f" {word} " in f" {turn.words} "
            assert [change.place for change in turn.changes] == [*called.values()]
        if kind == "edit" and "it" in turn.words.split():  # it is what the edit named, not whatever is left
            assert called["it"] in {change.place for change in edit.changes}
            its += 1
        try:
            found = asked(plainly(turn.words), edit.target, **called)
        except AssertionError:
            assert kind == "edit"
            assert not {"a", "the"} & set(turn.words.split())
            unread += 1
            continue
        assert found == as_set(turn.changes), turn.words
    assert unread < 120
    assert its > 3 or kind != "edit"


@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        ("reference", BARE),
        ("reference", Edit(PAIR, "use a grey background", (Change("background", "", {"background": "grey"}),))),
        (
            "reference",
            Edit(PAIR, "make both green", (*GREEN.changes, Change("recolour", "right", {"colour": "green"}))),
        ),
        ("other", Edit(Scene("white", (RED,)), "make it green", GREEN.changes)),
        ("other", BARE),
    ],
)
def test_a_turn_that_would_mean_nothing_is_not_drawn(kind, edit):
    with pytest.raises(Impossible, match="there is no"):
        following(np.random.default_rng(0), edit, kind)


def test_second_turns_come_in_their_shares():
    """Though an edit with an "other one" is rare: its kind is drawn before the edit."""
    rng = np.random.default_rng(10)
    chains = [random_chain(rng) for _ in range(400)]
    kinds = Counter(
        "undo" if not turn.changes
        else "other" if "other one" in turn.words and len(edit.changes) == 1
        else "reference" if f" {turn.words} ".count(" it ")
        else "edit"
        for edit, turn in chains
    )  # fmt: skip
    for kind, share in FOLLOWING.items():
        assert kinds[kind] / 400 == pytest.approx(share, abs=0.07), kind
    assert sum(turn.words.startswith(("now ", "please now ")) for _, turn in chains) > 3


PUT = re.compile(
    r"(?:put|add) (?:the )?(.+) of (?:the )?(first|second) image (?:into|to) (?:the )?(first|second)(?: image)?"
)
GIVE = re.compile(r"give (?:the )?(first|second) image (?:the )?background of (?:the )?(first|second) image")


def test_of_two_pictures_one_is_given_what_the_other_has():
    rng, kinds = np.random.default_rng(11), Counter()
    for _ in range(400):
        story = random_pair(rng)
        (turn,), (change,) = story.turns, story.turns[0].changes
        base, other = story.sources[story.edited], story.sources[1 - story.edited]
        words = plainly(turn.words)
        kinds[change.kind, story.edited] += 1
        if found := GIVE.fullmatch(words):
            assert [ORDER.index(said) for said in found.groups()] == [story.edited, 1 - story.edited]
            assert turn.target == Scene(other.background, base.things)
            continue
        name, there, here = PUT.fullmatch(words).groups()
        assert (ORDER.index(here), ORDER.index(there)) == (story.edited, 1 - story.edited)
        (thing,) = meant(name, other)
        assert set(turn.target.things) == {*base.things, thing}
        assert turn.target.background == base.background
        assert change == Change("add", thing.place, {name: getattr(thing, name) for name in ATTRIBUTES})
    assert set(kinds) == {(kind, edited) for kind in ("add", "background") for edited in (0, 1)}
    assert min(kinds.values()) > 8


def test_people_ask_politely_now_and_then():
    rng = np.random.default_rng(12)
    said = Counter(politely(rng, "remove the star") for _ in range(2000))
    plain = [words for words in said if plainly(words).replace("the ", "") == "remove star"]
    assert set(plain) == set(said)
    bare = said["remove the star"] + said["remove star"]
    assert bare / 2000 == pytest.approx(0.82, abs=0.03)
    wrapped = {"please remove the star", "remove the star, please", "can you remove the star?", "remove the star."}
    assert wrapped < set(said)
    assert 0.04 < sum(count for words, count in said.items() if "the" not in words.split()) / 2000 < 0.12


def test_an_edit_undone_shows_what_was_there():
    turn = following(np.random.default_rng(0), GREEN, "undo")
    assert (turn.target, turn.changes) == (Scene("white", (RED, BLUE)), ())
