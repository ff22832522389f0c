"""Reads a picture of the nano's world back into a scene by rules over pixels; no learned part."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

from .scenes import BACKGROUNDS, COLOURS, PALETTE, PLACES, RADIUS, SHAPES, Scene, Thing, shape_mask

MIN_AREA = 40  # pixels; a smaller blob is a speck and makes the reading fail
MIN_OVERLAP = 0.72  # intersection over union with the drawn template; a circle and a square of one size reach 0.8


def nearest(colour: np.ndarray, names: tuple[str, ...]) -> str | None:
    """The named colour nearest to an RGB triple, or None when none is within 60 of 255."""
    distance = {name: float(np.abs(colour - np.array(PALETTE[name])).max()) for name in names}
    best = min(distance, key=lambda name: distance[name])
    return best if distance[best] <= 60 else None


def overlap(mask: np.ndarray, shape: str, size: str, x: int, y: int) -> float:
    template = np.zeros((mask.shape[0] + 96, mask.shape[1] + 96), bool)
    template[y + 24 : y + 73, x + 24 : x + 73] = shape_mask(shape, size) > 0.5
    template = template[48:-48, 48:-48]
    return float((mask & template).sum() / max(1, (mask | template).sum()))


def read_thing(picture: np.ndarray, blob: np.ndarray, background: np.ndarray) -> Thing | None:
    """The thing whose drawn template overlaps a blob best, or None where none does or the colour has no name."""
    inner = ndimage.binary_erosion(blob, iterations=2)
    tone = np.median(picture[inner if inner.any() else blob], axis=0)
    colour = nearest(tone, COLOURS)
    if colour is None:
        return None
    contrast = tone - background  # the mask ends where the edge is half thing, half background
    cover = (picture - background) @ contrast / (contrast @ contrast)
    mask = (cover > 0.5) & ndimage.binary_dilation(blob, iterations=2)
    if not mask.any():
        return None
    ys, xs = np.nonzero(mask)
    mx, my = round((int(xs.min()) + int(xs.max())) / 2), round((int(ys.min()) + int(ys.max())) / 2)
    tries = [
        (overlap(mask, shape, size, mx + ox, my + oy), shape, size, mx + ox, my + oy)
        for shape, size in product(SHAPES, RADIUS)
        for ox, oy in product((-1, 0, 1), (-1, 0, 1, 2, 3))
    ]
    score, shape, size, cx, cy = max(tries)
    place = min(PLACES, key=lambda p: abs(PLACES[p][0] - cx) + abs(PLACES[p][1] - cy))
    dx, dy = cx - PLACES[place][0], cy - PLACES[place][1]
    if score < MIN_OVERLAP or max(abs(dx), abs(dy)) > 10:
        return None
    return Thing(shape, colour, size, place, dx, dy)


def read_scene(picture: np.ndarray) -> Scene | None:
    """The scene in a picture, or None where it is not clearly one.

    Args:
        picture: uint8 [128, 128, 3].
    """
    picture = np.asarray(picture).astype(np.float32)
    edge = np.concatenate([picture[:2].reshape(-1, 3), picture[-2:].reshape(-1, 3)])
    tone = np.median(edge, axis=0)
    background = nearest(tone, BACKGROUNDS)
    if background is None:
        return None
    foreground = np.abs(picture - tone).max(-1) > 40
    labels, count = ndimage.label(foreground)
    things = []
    for index in range(1, count + 1):
        blob = labels == index
        area = int(blob.sum())
        if area < 8:
            continue
        thing = read_thing(picture, blob, tone) if area >= MIN_AREA else None
        if thing is None:
            return None
        things.append(thing)
    return Scene(background, tuple(things)).ordered()


def same_spot(a: Scene, b: Scene, tolerance: int = 2) -> bool:
    """Whether two scenes agree in every attribute and in the things' centres to `tolerance` pixels."""
    if a.attributes != b.attributes:
        return False
    return all(
        max(abs(s.centre[0] - t.centre[0]), abs(s.centre[1] - t.centre[1])) <= tolerance
        for s, t in zip(a.ordered().things, b.ordered().things, strict=True)
    )
