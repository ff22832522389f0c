"""Scenes as class indices, which is what the VLM's throw-away heads are asked for."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ...world.scenes import BACKGROUNDS, COLOURS, PLACES, RADIUS, SHAPES, Scene, coverage
from .shape import GRID

IGNORE = -100
THING = [len(SHAPES) + 1, len(COLOURS), len(RADIUS)]  # how many classes: shape (0 is empty), colour, size
SCENE = THING * len(PLACES) + [len(BACKGROUNDS)]
CHANGED = [2] * (len(PLACES) + 1)
CELL = [*THING, len(PLACES)]
SEEN = 0.05  # share of a token's area from which on it shows a thing


def scene_code(scene: Scene) -> list[int]:
    """Class indices: for each place shape (0 is empty), colour, size; then the background."""
    by_place = {t.place: t for t in scene.things}
    code = []
    for place in PLACES:
        thing = by_place.get(place)
        code += (
            [SHAPES.index(thing.shape) + 1, COLOURS.index(thing.colour), list(RADIUS).index(thing.size)]
            if thing
            else [0, IGNORE, IGNORE]
        )
    return [*code, BACKGROUNDS.index(scene.background)]


def cell_codes(scene: Scene) -> list[list[int]]:
    """For each merged ViT token, row by row: shape (0 is empty), colour, size, place of the thing it shows most of."""
    covers = [_shares(coverage(thing)) for thing in scene.things]
    codes = []
    for shares in zip(*covers, strict=True):
        thing, share = scene.things[int(np.argmax(shares))], max(shares)
        codes.append(
            [
                SHAPES.index(thing.shape) + 1,
                COLOURS.index(thing.colour),
                list(RADIUS).index(thing.size),
                list(PLACES).index(thing.place),
            ]
            if share >= SEEN
            else [0, IGNORE, IGNORE, IGNORE]
        )
    return codes or [[0, IGNORE, IGNORE, IGNORE]] * GRID**2


def _shares(cover: np.ndarray) -> list[float]:
    """How much of each token's area is covered, row by row."""
    small = Image.fromarray(cover).resize((GRID, GRID), Image.Resampling.BOX)
    return [float(share) for share in np.asarray(small).ravel()]


def change_code(source: Scene | None, target: Scene) -> list[int]:
    """What an instruction wants: the target's `scene_code`, and for each place and the background whether it changes.

    Without a source nothing is asked.
    """
    if source is None:
        return [IGNORE] * (len(SCENE) + len(CHANGED))
    changed = {t.place for t in set(source.things) ^ set(target.things)}
    flags = [int(place in changed) for place in PLACES]
    return [*scene_code(target), *flags, int(source.background != target.background)]
