"""Reads a picture of the nano's world back into a scene by rules over pixels; no learned part.

A blob is compared with every shape, drawn at every half pixel around the blob's centre. It is read only where it looks
like one shape enough, and more than like any other; what a person would call none of the shapes is no clear scene.
`python -m benchmarks.reader` measures how often it errs.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
from scipy import ndimage

from .scenes import BACKGROUNDS, COLOURS, HALF, PALETTE, PLACES, RADIUS, SHAPES, SIZE, Scene, Thing, shape_mask

SPECK, FAINT = 8, 60  # pixels, of 255: a blob below is no part of the scene, nor is a small one that stands out less
MIN_AREA = 40  # pixels; any other blob below makes the reading fail
MIN_CONTRAST = 40  # of 255, in one channel: what stands out from the background
MAX_COLOUR = 60  # of 255, in every channel: how far a colour may lie from the one it is called
MAX_SPREAD, MIN_EVEN = 80, 0.8  # of 255: this share of a thing lies so near to its colour, or it has several
SMOOTH = 1.0  # pixels; blob and shapes are smoothed alike, so that noise and a little blur change nothing
SPAN = 2  # pixels around a blob's middle where its centre is sought
AROUND = 4  # pixels of background that are compared around a shape
# The likeness that each shape needs (1: the same pixels), and its misfit as a share of the next shape's, at most. All
# round figures look most like a circle (a diamond 0.95, a pentagon 0.96 if large), so a circle has to be a good one.
# A regular pentagon 24 pixels across reaches 0.978: what lets the nano's lumpy circles pass lets it pass as well.
LEAST = {"circle": (0.967, 0.5), "square": (0.92, 0.7), "star": (0.86, 0.7), "triangle": (0.86, 0.7)}


def nearest(colour: np.ndarray, names: tuple[str, ...]) -> str | None:
    """The named colour nearest to an RGB triple, or None when none is within MAX_COLOUR."""
    distance = {name: float(np.abs(colour - np.array(PALETTE[name])).max()) for name in names}
    best = min(distance, key=lambda name: distance[name])
    return best if distance[best] <= MAX_COLOUR else None


@cache
def templates() -> tuple[list[tuple[str, str, float, float]], np.ndarray]:
    """Every shape and size at four parts of a pixel: ([(shape, size, dx, dy)], their pixels float32 [32, 57 * 57])."""
    kinds = list(product(SHAPES, RADIUS, (0.0, 0.5), (0.0, 0.5)))
    masks = [np.pad(shape_mask(*kind), AROUND) for kind in kinds]
    return kinds, np.stack([ndimage.gaussian_filter(mask, SMOOTH).ravel() for mask in masks])


def likeness(cover: np.ndarray) -> dict[str, tuple[float, str, float, float]]:
    """How much a blob looks like each shape, {shape: (likeness, size, x, y)} of the best size and centre.

    Likeness is Tanimoto's, which is intersection over union for what covers pixels in part.

    Args:
        cover: how much of each pixel the blob covers, float32 [128, 128] in [0, 1], and not nothing.
    """
    rows, columns = np.arange(SIZE), cover.sum(0)
    y, x = (round(float(part @ rows / part.sum())) for part in (cover.sum(1), columns))
    side = 2 * (HALF + AROUND) + 1
    near = np.pad(cover, HALF + AROUND + SPAN)[y : y + side + 2 * SPAN, x : x + side + 2 * SPAN]
    views = np.lib.stride_tricks.sliding_window_view(ndimage.gaussian_filter(near, SMOOTH), (side, side))
    seen = views.reshape(-1, side * side)  # one row for each centre that is tried
    kinds, masks = templates()
    common = seen @ masks.T
    alike = common / ((seen**2).sum(1)[:, None] + (masks**2).sum(1) - common)
    found: dict[str, tuple[float, str, float, float]] = {}
    for (shape, size, dx, dy), row in zip(kinds, alike.T, strict=True):
        down, right = divmod(int(row.argmax()), 2 * SPAN + 1)
        one = float(row.max()), size, x + right - SPAN + dx, y + down - SPAN + dy
        found[shape] = max(one, found.get(shape, one))
    return found


def read_thing(picture: np.ndarray, blob: np.ndarray, background: np.ndarray) -> Thing | None:
    """The thing that a blob shows, or None where its shape is not clearly one of the world's or its colour has no name.

    Args:
        picture: float32 [128, 128, 3].
        blob: where the thing is, roughly; bool [128, 128].
        background: its colour, float32 [3].
    """
    rows, columns = (np.flatnonzero(blob.any(axis)) for axis in (1, 0))
    box = tuple(slice(max(0, int(i[0]) - 4), int(i[-1]) + 5) for i in (rows, columns))
    blob, part = blob[box], picture[box]
    inner = ndimage.binary_erosion(blob, iterations=2)
    inside = part[inner if inner.any() else blob]
    tone = np.median(inside, axis=0)
    colour = nearest(tone, COLOURS)
    if colour is None or (np.abs(inside - tone).max(-1) <= MAX_SPREAD).mean() < MIN_EVEN:
        return None
    contrast = tone - background
    cover = np.zeros((SIZE, SIZE), np.float32)
    cover[box] = np.clip((part - background) @ contrast / (contrast @ contrast), 0, 1)
    cover[box] *= ndimage.binary_dilation(blob, iterations=3)
    found = likeness(cover)
    (score, shape), (second, _) = sorted(((one[0], shape) for shape, one in found.items()), reverse=True)[:2]
    least, most = LEAST[shape]
    if score < least or 1 - score > most * (1 - second):
        return None
    _, size, cx, cy = found[shape]
    place = min(PLACES, key=lambda p: abs(PLACES[p][0] - cx) + abs(PLACES[p][1] - cy))
    dx, dy = round(cx) - PLACES[place][0], round(cy) - PLACES[place][1]
    return None if max(abs(dx), abs(dy)) > 10 else Thing(shape, colour, size, place, dx, dy)


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
    contrast = np.maximum.reduce([np.abs(picture[..., i] - tone[i]) for i in range(3)])
    labels, count = ndimage.label(contrast > MIN_CONTRAST)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    things = []
    for index in (i for i in range(1, count + 1) if areas[i] >= SPECK):
        blob = labels == index
        if areas[index] < MIN_AREA and contrast[blob].mean() < FAINT:
            continue
        thing = read_thing(picture, blob, tone) if areas[index] >= MIN_AREA else None
        if thing is None:
            return None
        things.append(thing)
    if len({thing.place for thing in things}) < len(things):
        return None
    return Scene(background, tuple(things)).ordered()


def same_spot(a: Scene, b: Scene, tolerance: int = 2) -> bool:
    """Whether two scenes agree in every attribute and in the things' centres to `tolerance` pixels."""
    if a.attributes != b.attributes or len(a.things) != len(b.things):
        return False
    return all(
        max(abs(s.centre[0] - t.centre[0]), abs(s.centre[1] - t.centre[1])) <= tolerance
        for s, t in zip(a.ordered().things, b.ordered().things, strict=True)
    )
