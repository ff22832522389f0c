"""The reader of pictures against the scenes they were drawn from: the nano's scores are worth what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import PAIR

from lightbagel_core.world.reader import read_scene, same_spot
from lightbagel_core.world.scenes import PLACES, RADIUS, SHAPES, Scene, Thing, random_scene, render
from lightbagel_core.world.sentences import caption


def test_every_drawn_scene_is_read_back_to_the_pixel():
    rng = np.random.default_rng(0)
    for _ in range(150):
        scene = random_scene(rng)
        assert same_spot(scene, read_scene(render(scene)), tolerance=1), caption(scene)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", RADIUS)
@pytest.mark.parametrize("place", PLACES)
def test_single_things_are_read_in_noise(shape, size, place):
    scene = Scene("grey", (Thing(shape, "yellow", size, place),))
    noisy = render(scene) + np.random.default_rng(1).normal(0, 8, (128, 128, 3))
    assert same_spot(scene, read_scene(noisy.clip(0, 255).astype(np.uint8)))


def test_the_reader_refuses_what_is_no_clear_scene():
    assert read_scene(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)) is None
    assert read_scene(np.full((128, 128, 3), (90, 0, 90), np.uint8)) is None
    smear = render(PAIR)
    smear[60:70, 20:110] = (222, 40, 40)
    assert read_scene(smear) is None


def test_the_same_spot_ends_two_pixels_away():
    scene = Scene("white", (Thing("circle", "red", "large", "centre"),))
    moved = {dx: replace(scene, things=(replace(scene.things[0], dx=dx),)) for dx in (2, 3)}
    assert same_spot(scene, moved[2])
    assert not same_spot(scene, moved[3])
