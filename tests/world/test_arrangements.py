"""Scenes drawn to a plan: they keep it, their things never touch, and a plan that no scene keeps is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scenes import PAIR, RED

from lightbagel_core.world.arrangements import COUNTS, fits, gap, lies_between, random_scene, scene_of
from lightbagel_core.world.reader import read_scene
from lightbagel_core.world.scenes import MOST, PLACES, RADIUS, SHAPES, Scene, Thing, render
from lightbagel_core.world.sentences import caption

ATTRIBUTES = ("shape", "colour", "size")
PLANS = [
    {},
    {"same": ("shape",)},
    {"same": ("colour",), "differ": ("shape",)},
    {"same": ("shape", "colour")},
    {"differ": ("shape", "colour")},
    {"same": ATTRIBUTES},
    {"shape": "star", "colour": "yellow", "background": "grey"},
    {"size": "large"},
]


@pytest.mark.parametrize(("plan", "count"), [(plan, count) for plan, count in product(PLANS, range(5))])
def test_a_scene_keeps_its_plan(plan, count):
    rng = np.random.default_rng(0)
    for _ in range(12):
        scene = scene_of(rng, count, **plan)
        assert len({t.place for t in scene.things}) == len(scene.things) == count
        assert scene == scene.ordered()
        for name in ATTRIBUTES:
            values = [getattr(t, name) for t in scene.things]
            assert name not in plan.get("same", ()) or len({*values}) <= 1
            assert name not in plan.get("differ", ()) or len({*values}) == count
            assert name not in plan or {*values} <= {plan[name]}
        assert all(t.colour != scene.background for t in scene.things)


def test_up_to_four_things_stand_apart_and_are_read_back():
    rng = np.random.default_rng(1)
    for index in range(60):
        scene = scene_of(rng, 3 + index % 2)
        assert all(gap(a, b) >= 1 for a, b in combinations(scene.things, 2)), caption(scene)
        assert read_scene(render(scene)) == scene


def test_only_two_large_neighbours_can_touch():
    """All pairs of places, shapes and sizes, moved as near to each other as scenes move them."""
    near = set()
    for (p, q), s, z, t, y in product(combinations(PLACES, 2), SHAPES, RADIUS, SHAPES, RADIUS):
        way = np.sign(np.subtract(PLACES[q], PLACES[p]))
        a, b = Thing(s, "red", z, p, *(2 * way)), Thing(t, "blue", y, q, *(-2 * way))
        if gap(a, b) < 1:
            near.add(("centre" in (p, q), z, y))
    assert near == {(True, "large", "large")}


def test_a_gap_is_counted_in_pixels_of_background():
    left = Thing("square", "red", "small", "left")  # 13 pixels to either side of its centre
    others = [replace(left, dx=dx) for dx in (0, 26, 27, 28, 34)]
    assert [gap(left, other) for other in others] == [0, 0, 0, 1, 7]


def test_what_lies_between_others():
    scene = scene_of(np.random.default_rng(2), 3, places=("left", "centre", "right"))
    middle, left, right = scene.things
    assert [lies_between(scene, t) for t in scene.things] == [True, False, False]
    assert not lies_between(replace(scene, things=(middle, left)), middle)
    corner = replace(scene, things=(middle, left, replace(right, place="top")))
    assert not lies_between(corner, middle)
    assert lies_between(replace(corner, things=(*corner.things, replace(right, place="bottom"))), middle)


def test_every_choice_can_come_out():
    rng = np.random.default_rng(3)
    things = [t for _ in range(120) for t in scene_of(rng, 4).things]
    assert {t.attributes[0::2] for t in things} == set(product(SHAPES, RADIUS))
    assert {t.place for t in things} == set(PLACES)
    assert {(t.dx, t.dy) for t in things} == set(product(range(-2, 3), repeat=2))
    assert any(t.size == "large" and t.place == "centre" for t in things)


@pytest.mark.parametrize(
    ("count", "plan", "words"),
    [
        (5, {}, "0 to 4"),
        (3, {"differ": ("size",)}, "differ in size"),
        (2, {"differ": ("colour",), "same": ("colour",)}, "differ in colour"),
        (2, {"differ": ("shape",), "shape": "star"}, "differ in shape"),
        (2, {"same": ("weight",)}, "weight"),
        (2, {"places": ("left", "left")}, "different places"),
        (1, {"colour": "yellow", "background": "yellow"}, "colour"),
        (2, {"size": "large", "places": ("left", "centre")}, "touches"),
    ],
)
def test_a_plan_that_no_scene_keeps_is_refused(count, plan, words):
    with pytest.raises(ValueError, match=words):
        scene_of(np.random.default_rng(0), count, **plan)


def test_the_same_plan_and_seed_give_the_same_scene():
    a, b = (scene_of(np.random.default_rng(5), 4, same=("shape",)) for _ in "ab")
    assert a == b
    assert isinstance(a, Scene)


def test_random_scenes_have_up_to_four_things_and_fit():
    rng = np.random.default_rng(6)
    scenes = [random_scene(rng) for _ in range(2000)]
    shares = np.bincount([len(scene.things) for scene in scenes], minlength=MOST + 1) / len(scenes)
    alike = np.array([0, 0, 1, 1, 1]) / 3  # by plan, in 22 of 100 scenes
    assert shares == pytest.approx(0.78 * np.array(COUNTS) + 0.22 * alike, abs=0.03)
    assert all(fits(scene) and scene == scene.ordered() for scene in scenes)
    assert {len(random_scene(rng, count).things) for count in range(MOST + 1) for _ in range(5)} == set(range(MOST + 1))


def test_two_of_three_scenes_of_two_things_have_something_in_common():
    rng = np.random.default_rng(7)
    pairs = [random_scene(rng, 2).things for _ in range(2000)]
    alike = [any(getattr(a, name) == getattr(b, name) for name in ATTRIBUTES) for a, b in pairs]
    shape_or_colour = [a.shape == b.shape or a.colour == b.colour for a, b in pairs]
    assert np.mean(alike) > 2 / 3
    assert 0.3 < np.mean(shape_or_colour) < 0.6


def test_what_fits_can_be_told_and_does_not_touch():
    assert fits(PAIR)
    assert not fits(Scene("red", (RED,)))
    centre = replace(RED, place="centre")
    assert not fits(Scene("white", (RED, centre)))
    assert fits(Scene("white", (centre, replace(RED, size="small"))))
    assert fits(Scene("white", (replace(centre, size="small"), RED, replace(RED, place="right"))))
