"""Scenes of the nano's world: plain backgrounds with coloured shapes at named places, and the pictures of them.

Everything random is drawn from a `numpy.random.Generator`, so a sample is reproduced by its seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

SIZE = 128  # pixels, both sides
Colour = tuple[int, int, int]
PALETTE: Mapping[str, Colour] = {
    "red": (222, 40, 40),
    "green": (36, 160, 60),
    "blue": (40, 80, 224),
    "yellow": (245, 208, 40),
    "purple": (150, 60, 190),
    "white": (250, 250, 250),
    "grey": (140, 140, 140),
    "black": (20, 20, 20),
}
COLOURS = BACKGROUNDS = tuple(PALETTE)  # a thing has any but its background's
SHAPES = ("circle", "square", "star", "triangle")
RADIUS = {"small": 14, "large": 19}
HALF = 24  # pixels from the middle to the edge of the square in which a shape is drawn
PLACES = {"left": (22, 64), "right": (106, 64), "top": (64, 22), "bottom": (64, 106), "centre": (64, 64)}
RELATION = {
    ("left", "right"): "left of",
    ("right", "left"): "right of",
    ("top", "bottom"): "above",
    ("bottom", "top"): "below",
}
MOST = 4  # things in a scene
JITTER = 2  # pixels either way, so that a picture holds more than its caption says


@dataclass(frozen=True)
class Thing:
    """One shape. `dx`, `dy` move it from its named place, in pixels."""

    shape: str
    colour: str
    size: str
    place: str
    dx: int = 0
    dy: int = 0

    @property
    def centre(self) -> tuple[int, int]:
        x, y = PLACES[self.place]
        return x + self.dx, y + self.dy

    @property
    def attributes(self) -> tuple[str, str, str, str]:
        return self.shape, self.colour, self.size, self.place


@dataclass(frozen=True)
class Scene:
    """A background and up to four things at different places.

    In canonical order the centre comes first, then left, top, right, bottom.
    """

    background: str
    things: tuple[Thing, ...] = ()

    def ordered(self) -> Scene:
        """The same scene with its things in canonical order."""
        rank = {"centre": 0, "left": 1, "top": 2, "right": 3, "bottom": 4}
        return replace(self, things=tuple(sorted(self.things, key=lambda t: rank[t.place])))

    @property
    def attributes(self) -> tuple[str, frozenset[tuple[str, str, str, str]]]:
        return self.background, frozenset(t.attributes for t in self.things)


@cache
def shape_mask(shape: str, size: str, dx: float = 0, dy: float = 0) -> np.ndarray:
    """Coverage of a shape in [0, 1], float32 [49, 49]; edges are antialiased.

    Its centre is that of pixel (24, 24), moved by `dx`, `dy` eighths of a pixel, given in pixels.
    """
    scale = 8
    canvas = Image.new("L", ((2 * HALF + 1) * scale,) * 2, 0)
    x, y, r = (HALF + 0.5 + dx) * scale, (HALF + 0.5 + dy) * scale, RADIUS[size] * scale
    draw = ImageDraw.Draw(canvas)
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    elif shape == "square":
        draw.rectangle((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=255)
    elif shape == "star":
        angles = -np.pi / 2 + np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, 1.15 * r, 0.5 * r)
        draw.polygon([(x + q * np.cos(a), y + q * np.sin(a)) for q, a in zip(radii, angles, strict=True)], fill=255)
    elif shape == "triangle":
        draw.polygon([(x, y - 1.15 * r), (x - 1.05 * r, y + 0.575 * r), (x + 1.05 * r, y + 0.575 * r)], fill=255)
    else:
        raise ValueError(f"no such shape: {shape}")
    return np.asarray(canvas.reduce(scale), np.float32) / 255


def coverage(thing: Thing, part: tuple[float, float] = (0, 0)) -> np.ndarray:
    """How much of each pixel a thing covers, moved by a part of a pixel in x and y; float32 [128, 128] in [0, 1]."""
    x0, y0 = thing.centre[0] - HALF, thing.centre[1] - HALF
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = min(2 * HALF + 1, SIZE - y0), min(2 * HALF + 1, SIZE - x0)
    cover = np.zeros((SIZE, SIZE), np.float32)
    mask = shape_mask(thing.shape, thing.size, *part)
    cover[y0 + top : y0 + bottom, x0 + left : x0 + right] = mask[top:bottom, left:right]
    return cover


def render(scene: Scene, palette: Mapping[str, Colour] = PALETTE) -> np.ndarray:
    """The picture of a scene, uint8 [128, 128, 3]; another palette draws it in other shades."""
    picture = np.empty((SIZE, SIZE, 3), np.float32)
    picture[:] = palette[scene.background]
    for thing in scene.things:
        picture += coverage(thing)[..., None] * (np.array(palette[thing.colour], np.float32) - picture)
    return np.rint(picture).astype(np.uint8)


T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
