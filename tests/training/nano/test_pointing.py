"""Which thing a name singles out, word by word."""

from __future__ import annotations

import numpy as np
import pytest

from lightbagel_core.training.nano.codes import IGNORE
from lightbagel_core.training.nano.pointing import pointed
from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.edits import Change
from lightbagel_core.world.scenes import PLACES, Scene, Thing
from lightbagel_core.world.sentences import reference

SCENE = Scene(
    "white",
    (
        Thing("circle", "red", "large", "left"),
        Thing("circle", "blue", "small", "top"),
        Thing("star", "red", "small", "right"),
    ),
)


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ("make the star blue", {2: "right"}),
        ("make the red circle blue", {3: "left"}),
        ("make the circle blue", {}),  # there are two
        ("make the blue one red", {3: "top"}),
        ("remove the circle at the top", {5: "top"}),
        ("remove the one on the left", {5: "left"}),
        ("swap the large one and the star", {3: "left", 6: "right"}),
        ("add a star on the left", {}),
        ("keep the star and remove the other one", {2: "right"}),
        ("replace the star with a circle", {2: "right"}),
        ("remove the square", {}),
        ("make the star smaller , then remove the large circle", {2: "right", 9: "left"}),
    ],
)
def test_a_name_points_where_its_thing_stands(words, places):
    labels = pointed(words.split(), SCENE)
    assert {i: list(PLACES)[label] for i, label in enumerate(labels) if label != IGNORE} == places


@pytest.mark.parametrize(
    ("words", "changed", "places"),
    [
        ("make it blue", ("right",), {1: "right"}),
        ("make it blue", (), {}),  # nothing says what it is
        ("move it to the bottom", ("left", "bottom"), {1: "left"}),  # taken from there, put there
        ("make the other one blue", ("left",), {3: "left"}),
        ("keep the star and remove the other one", ("left",), {2: "right", 7: "left"}),
        ("make the star blue and the other one red", ("right", "left"), {2: "right", 7: "left"}),
    ],
)
def test_what_it_and_the_other_one_mean_shows_in_what_changes(words, changed, places):
    changes = [Change("recolour", place, {"colour": "blue"}) for place in changed]
    labels = pointed(words.split(), SCENE, changes)
    assert {i: list(PLACES)[label] for i, label in enumerate(labels) if label != IGNORE} == places


def test_the_only_thing_is_it():
    scene = Scene("white", SCENE.things[:1])
    changes = [Change("background", "", {"background": "grey"}), Change("recolour", "left", {"colour": "blue"})]
    labels = pointed(["use", "a", "grey", "background", "and", "make", "it", "blue"], scene, changes)
    assert labels[6] == list(PLACES).index("left")


def test_whatever_words_single_out_a_thing_point_to_it():
    rng = np.random.default_rng(1)
    for _ in range(400):
        scene = random_scene(rng, int(rng.integers(1, 5)))
        thing = scene.things[int(rng.integers(len(scene.things)))]
        words = f"remove the {reference(rng, scene, thing)}".split()
        assert pointed(words, scene)[-1] == list(PLACES).index(thing.place), (words, scene)
