"""Scenes of the nano's world: their things can be told from the background."""

from __future__ import annotations

import numpy as np

from lightbagel_core.world.scenes import COLOURS, random_scene


def test_no_shape_has_the_background_colour():
    rng = np.random.default_rng(3)
    for _ in range(200):
        scene = random_scene(rng)
        assert all(t.colour in COLOURS and t.colour != scene.background for t in scene.things)
