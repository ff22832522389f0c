"""Scenes as class indices, which is what the VLM's throw-away heads are asked for."""

from __future__ import annotations

import numpy as np

from ...world.scenes import BACKGROUNDS, COLOURS, PLACES, RADIUS, SHAPES, SIZE, Scene, coverage
from .shape import GRID

IGNORE = -100
THING = [len(SHAPES) + 1, len(COLOURS), len(RADIUS)]  # how many classes: shape (0 is empty), colour, size
SCENE = THING * len(PLACES) + [len(BACKGROUNDS)]
CELL = [*THING, len(PLACES)]
MEANT = [len(PLACES) + 1, *THING]
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
    covers = [coverage(thing).reshape(GRID, SIZE // GRID, GRID, -1).mean((1, 3)).flatten() for thing in scene.things]
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


def meant(source: Scene | None, target: Scene) -> list[int]:
    """The one place an instruction changes, then shape (0 is empty), colour and size of what is to stand there.

    A change of the background means the place after the last; without a source nothing is meant.
    """
    if source is None:
        return [IGNORE] * 4
    changed = {t.place for t in set(source.things) ^ set(target.things)}
    if not changed:
        return [len(PLACES), IGNORE, IGNORE, IGNORE]
    place = list(PLACES).index(changed.pop())
    return [place, *scene_code(target)[3 * place : 3 * place + 3]]
