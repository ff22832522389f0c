"""Scenes of the nano's world: their things can be told from the background, and have one order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scenes import BLUE, PAIR, RED

from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.scenes import BACKGROUNDS, COLOURS, PALETTE, PLACES, SHAPES, Scene, render, shape_mask


def test_no_shape_has_the_background_colour():
    rng = np.random.default_rng(3)
    for _ in range(200):
        scene = random_scene(rng)
        assert all(t.colour in COLOURS and t.colour != scene.background for t in scene.things)


def test_things_and_backgrounds_have_the_same_colours():
    rng = np.random.default_rng(4)
    scenes = [random_scene(rng) for _ in range(300)]
    assert {scene.background for scene in scenes} == set(BACKGROUNDS) == set(PALETTE)
    assert {t.colour for scene in scenes for t in scene.things} == set(COLOURS) == set(PALETTE)


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


def test_every_shape_has_a_mask_of_its_own_and_an_unknown_one_none():
    masks = {shape: shape_mask(shape, "large").tobytes() for shape in SHAPES}
    assert len(set(masks.values())) == len(SHAPES)
    with pytest.raises(ValueError, match="no such shape: hexagon"):
        shape_mask("hexagon", "large")


def test_a_triangle_stands_on_its_base():
    """Its width grows from row to row and it is as wide on either side."""
    mask = shape_mask("triangle", "large")
    widths = mask.sum(1)[mask.sum(1) > 1][:-1]
    assert (np.diff(widths) > 0).all()
    assert np.abs(mask - mask[:, ::-1]).max() < 0.3  # edges are drawn to an eighth of a pixel
