"""Scenes of the nano's world: their things can be told from the background, and have one order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
from scenes import BLUE, PAIR, RED

from lightbagel_core.world.scenes import COLOURS, PALETTE, PLACES, Scene, random_scene, render


def test_no_shape_has_the_background_colour():
    rng = np.random.default_rng(3)
    for _ in range(200):
        scene = random_scene(rng)
        assert all(t.colour in COLOURS and t.colour != scene.background for t in scene.things)


def test_five_places_have_one_order():
    things = [replace(RED, place=place) for place in PLACES]
    orders = {Scene("white", tuple(p)).ordered() for p in permutations(things)}
    assert [[t.place for t in scene.things] for scene in orders] == [["centre", "left", "top", "right", "bottom"]]


def test_another_palette_draws_another_shade():
    shades = {**PALETTE, "red": (200, 60, 30), "white": (240, 230, 250)}
    picture = render(PAIR, shades)
    for (x, y), colour in ((RED.centre, (200, 60, 30)), (BLUE.centre, PALETTE["blue"]), ((64, 64), (240, 230, 250))):
        assert tuple(picture[y, x]) == colour
    assert not (render(PAIR) == picture).all()
