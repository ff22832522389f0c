from __future__ import annotations

import pytest

from lightbagel_core.evaluation.benches.geneval_rule import Found, judge_objects, relations


def thing(kind: str, x: float = 0, y: float = 0, colour: str = "red", half: float = 10) -> Found:
    return Found(kind, colour, (x - half, y - half, x + half, y + half))


def two_cups(*colours: str) -> list[Found]:
    return [thing("cup", 40 * i, colour=colour) for i, colour in enumerate(colours)]


# Extents of 20 and 20: along each axis 0.1 * 40 = 4 is taken off the offset.
@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        (-30, 0, {"left of"}),  # 26 / 30
        (30, 0, {"right of"}),
        (0, -30, {"above"}),
        (0, 30, {"below"}),
        (30, 30, {"right of", "below"}),  # 26 / 42.43 = 0.61 both ways
        (30, 14, {"right of"}),  # 10 / 33.1 = 0.30 downwards
        (10, 10, set()),  # 6 / 14.14 = 0.42: too little either way
        (4, 4, set()),  # nothing is left
        (9, 0, {"right of"}),  # 5 / 9
        (7, 0, set()),  # 3 / 7
        (0, 0, set()),
    ],
)
def test_a_relation_is_what_is_left_of_the_offset(dx, dy, expected):
    assert relations(thing("a", dx, dy).box, thing("b").box) == expected


def test_less_than_a_thousandth_of_a_pixel_is_no_offset():
    point = (0.0, 0.0, 0.0, 0.0)
    assert relations((0.0009, 0.0, 0.0009, 0.0), point) == set()
    assert relations((0.0011, 0.0, 0.0011, 0.0), point) == {"right of"}


def test_more_than_asked_for_are_fine_unless_excluded():
    asked = {"include": [{"class": "cup", "count": 2}]}
    assert judge_objects(two_cups("red", "red", "red"), asked) == (True, "")
    asked["exclude"] = [{"class": "cup", "count": 3}]
    assert judge_objects(two_cups("red", "red"), asked)[0]
    right, reason = judge_objects(two_cups("red", "red", "red"), asked)
    assert not right
    assert reason == "expected fewer than 3 cup, found 3"


def test_too_few_are_wrong_and_every_failing_clause_is_said():
    asked = {"include": [{"class": "cup", "count": 2}, {"class": "dog", "count": 1}]}
    assert judge_objects(two_cups("red"), asked) == (False, "expected 2 cup, found 1\nexpected 1 dog, found 0")


def test_the_colour_of_the_surest_counts_unless_all_are_equally_sure():
    asked = {"include": [{"class": "cup", "count": 1, "color": "red"}]}
    assert judge_objects(two_cups("red", "blue"), asked)[0]
    assert judge_objects(two_cups("blue", "red"), asked) == (False, "expected 1 red cup, found blue")
    assert judge_objects(two_cups("blue", "red"), asked, ranked=False)[0]
    assert not judge_objects(two_cups("blue", "blue"), asked, ranked=False)[0]


def test_a_position_holds_towards_all_that_the_other_clause_took():
    asked = {"include": [{"class": "cup", "count": 2}, {"class": "dog", "count": 1, "position": ["left of", 0]}]}
    assert judge_objects([*two_cups("red", "red"), thing("dog", -40)], asked)[0]
    between = [*two_cups("red", "red"), thing("dog", 20)]
    assert judge_objects(between, asked) == (False, "expected dog left of cup, found left of and right of")
    far = [*two_cups("red", "red"), thing("dog", 20), thing("dog", -40)]
    assert not judge_objects(far, asked)[0]
    assert judge_objects(far, asked, ranked=False)[0]


def test_without_the_other_thing_there_is_no_position():
    asked = {"include": [{"class": "cup", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}]}
    assert judge_objects([thing("dog")], asked) == (False, "expected 1 cup, found 0\nno object for dog to be left of")


def test_a_thing_of_the_wrong_colour_is_nothing_to_stand_beside():
    asked = {
        "include": [
            {"class": "cup", "count": 1, "color": "blue"},
            {"class": "dog", "count": 1, "position": ["below", 0]},
        ]
    }
    right, reason = judge_objects([thing("cup"), thing("dog", 0, 50)], asked)
    assert not right
    assert "no object for dog to be below" in reason
