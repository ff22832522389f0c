"""Done and kept, on scenes made by hand: each can hold without the other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes import BLUE, PAIR, RED

from lightbagel_core.evaluation.suites.checks import CASES, Verdict, cases, judge
from lightbagel_core.world.edits import Change
from lightbagel_core.world.scenes import Scene, Thing

GREEN = replace(RED, colour="green")
STAR = Thing("star", "yellow", "small", "top")
RECOLOUR = Change("recolour", "left", {"colour": "green"})
REPLACE = Change("replace", "left", {"shape": "star"})
RESIZE = Change("resize", "left", {"size": "small"})
REMOVE = Change("remove", "left", {})
ADD = Change("add", "top", {"shape": "star", "colour": "yellow"})
BACKGROUND = Change("background", "", {"background": "grey"})
EVERY = (RECOLOUR, REPLACE, RESIZE, REMOVE, ADD, BACKGROUND)


def pair(*things: Thing, background: str = "white") -> Scene:
    return Scene(background, things)


# What PAIR, a large red circle on the left and a small blue square on the right, became; done; kept.
SEEN = {
    "recoloured": (RECOLOUR, pair(GREEN, BLUE), True, True),
    "left as it was": (RECOLOUR, PAIR, False, True),
    "both recoloured": (RECOLOUR, pair(GREEN, replace(BLUE, colour="green")), True, False),
    "the other one recoloured": (RECOLOUR, pair(RED, replace(BLUE, colour="green")), False, False),
    "recoloured, and another shape": (RECOLOUR, pair(replace(GREEN, shape="star"), BLUE), True, False),
    "recoloured, moved by two": (RECOLOUR, pair(replace(GREEN, dx=2, dy=-2), BLUE), True, True),
    "recoloured, moved by three": (RECOLOUR, pair(replace(GREEN, dx=3), BLUE), True, False),
    "recoloured, the other moved by three": (RECOLOUR, pair(GREEN, replace(BLUE, dx=4)), True, False),
    "recoloured elsewhere": (RECOLOUR, pair(replace(GREEN, place="top"), BLUE), False, False),
    "recoloured on grey": (RECOLOUR, pair(GREEN, BLUE, background="grey"), True, False),
    "replaced": (REPLACE, pair(replace(RED, shape="star"), BLUE), True, True),
    "replaced by another shape": (REPLACE, pair(replace(RED, shape="square"), BLUE), False, True),
    "replaced in another colour": (REPLACE, pair(replace(GREEN, shape="star"), BLUE), True, False),
    "resized": (RESIZE, pair(replace(RED, size="small"), BLUE), True, True),
    "not resized but recoloured": (RESIZE, pair(GREEN, BLUE), False, False),
    "removed": (REMOVE, pair(BLUE), True, True),
    "both removed": (REMOVE, pair(), True, False),
    "the other one removed": (REMOVE, pair(RED), False, False),
    "not removed": (REMOVE, PAIR, False, True),
    "not removed but recoloured": (REMOVE, pair(GREEN, BLUE), False, True),
    "only moved": (REMOVE, pair(replace(RED, place="top"), BLUE), False, False),
    "removed, something new elsewhere": (REMOVE, pair(STAR, BLUE), True, False),
    "added": (ADD, pair(RED, BLUE, STAR), True, True),
    "added in another size, which was not said": (ADD, pair(RED, BLUE, replace(STAR, size="large", dx=4)), True, True),
    "not added": (ADD, PAIR, False, True),
    "added in another colour": (ADD, pair(RED, BLUE, replace(STAR, colour="red")), False, True),
    "added elsewhere": (ADD, pair(RED, BLUE, replace(STAR, place="bottom")), False, False),
    "added twice": (ADD, pair(RED, BLUE, STAR, replace(STAR, dx=9)), True, False),
    "added, another lost": (ADD, pair(RED, STAR), True, False),
    "another background": (BACKGROUND, pair(RED, BLUE, background="grey"), True, True),
    "the wrong background": (BACKGROUND, pair(RED, BLUE, background="black"), False, True),
    "another background, a thing lost": (BACKGROUND, pair(RED, background="grey"), True, False),
}


@pytest.mark.parametrize(("change", "seen", "done", "kept"), SEEN.values(), ids=SEEN)
def test_done_and_kept_apart(change, seen, done, kept):
    verdict = judge([change], PAIR, seen)
    assert (verdict.done, verdict.kept, verdict.right) == (done, kept, done and kept)
    assert bool(verdict.reason) is not verdict.right


@pytest.mark.parametrize("change", EVERY, ids=lambda change: change.kind)
def test_what_a_change_makes_is_right_and_nothing_done_is_only_kept(change):
    assert judge([change], PAIR, change.apply(PAIR)) == Verdict(True, True)
    nothing = judge([change], PAIR, PAIR)
    assert (nothing.done, nothing.kept) == (False, True)


def test_a_size_that_was_said_is_part_of_what_is_to_be_done():
    small = Change("add", "top", {**ADD.wanted, "size": "small"})
    assert judge([small], PAIR, pair(RED, BLUE, STAR)).right
    assert not judge([small], PAIR, pair(RED, BLUE, replace(STAR, size="large"))).done


def test_of_two_changes_both_must_be_done_and_neither_counts_against_what_is_kept():
    both = [RECOLOUR, Change("remove", "right", {})]
    assert judge(both, PAIR, pair(GREEN)).right
    half = judge(both, PAIR, pair(GREEN, BLUE))
    assert (half.done, half.kept, half.reason) == (False, True, "there is still a thing on the right")
    other = judge(both, PAIR, pair(RED))
    assert (other.done, other.kept) == (False, True)


def test_a_new_thing_like_the_removed_one_did_not_only_move():
    again = Change("add", "top", {"shape": "circle", "colour": "red"})
    assert judge([again, REMOVE], PAIR, pair(replace(RED, place="top"), BLUE)).right


def test_a_picture_without_a_clear_scene_is_wrong_in_both():
    verdict = judge([RECOLOUR], PAIR, None)
    assert (verdict.done, verdict.kept, verdict.reason) == (False, False, "the picture shows no clear scene")


def test_the_cases_of_an_edit():
    row = pair(RED, Thing("star", "green", "small", "centre"), replace(BLUE, colour="yellow"))
    assert cases([Change("remove", "centre", {})], row) == ("three things", "removed from between others")
    assert cases([Change("remove", "left", {})], row) == ("three things",)
    assert cases([Change("recolour", "centre", {"colour": "red"})], row) == ("three things",)
    middle = next(t for t in row.things if t.place == "centre")
    moved = Change("add", "top", {"shape": middle.shape, "colour": middle.colour})
    assert cases([Change("remove", "centre", {}), moved], row) == ("three things",)
    assert cases([BACKGROUND], pair(RED)) == ("one thing",)
    assert cases([BACKGROUND], PAIR) == ("two things",)
    alike = pair(RED, replace(RED, place="right"))
    assert cases([BACKGROUND], alike) == ("two things", "two of one shape", "two of one colour")
    assert {*cases([Change("remove", "centre", {})], row), *cases([BACKGROUND], alike), "one thing"} == set(CASES)
