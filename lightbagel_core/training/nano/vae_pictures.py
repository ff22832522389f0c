"""Pictures of the nano's world as its VAE learns from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...world.arrangements import random_scene
from ...world.scenes import JITTER, MOST, PLACES, SIZE, Scene, Thing, pick
from .shape import SIDE, picture

CROP = 48  # pixels
NEAR = 0.4  # share of hard scenes that are drawn together: things that nearly touch are the last to stay apart


def hard_scene(rng: np.random.Generator) -> Scene:
    """A random scene, of many things in half, and often drawn together: what comes out wrong is small and stands close
    to others.
    """
    scene = random_scene(rng, int(rng.integers(3, MOST + 1)) if rng.random() < 0.5 else None)
    return drawn_together(rng, scene) if rng.random() < NEAR else scene


def pictures(rng: np.random.Generator, count: int) -> np.ndarray:
    """So many random scenes, uint8 [B, 96, 96, 3]."""
    return np.stack([np.asarray(picture(random_scene(rng))) for _ in range(count)])


def drawn_together(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with the thing in its centre and one beside it as near each other as their places let them be."""
    beside = [t for t in scene.things if t.place != "centre"]
    if len(beside) == len(scene.things) or not beside:
        return scene
    other = pick(rng, beside)
    x, y = (int(np.sign(a - b)) for a, b in zip(PLACES[other.place], PLACES["centre"], strict=True))
    toward = {"centre": (x, y), other.place: (-x, -y)}

    def moved(thing: Thing) -> Thing:
        x, y = toward.get(thing.place, (0, 0))
        return replace(thing, dx=x * JITTER or thing.dx, dy=y * JITTER or thing.dy)

    return replace(scene, things=tuple(map(moved, scene.things)))


def crop(rng: np.random.Generator) -> tuple[Scene, np.ndarray]:
    """A hard scene and 48 pixels of it, uint8 [48, 48, 3], mostly around a shape: on whole pictures plain background
    drowns the shapes.
    """
    scene = hard_scene(rng)
    if scene.things and rng.random() < 0.85:
        small = [t for t in scene.things if t.size == "small"]  # the hardest to keep sharp
        x, y = (side * SIDE // SIZE for side in pick(rng, small or scene.things).centre)
        x0, y0 = x - CROP // 2 + int(rng.integers(-12, 13)), y - CROP // 2 + int(rng.integers(-12, 13))
    else:
        x0, y0 = (int(v) for v in rng.integers(0, SIDE - CROP + 1, 2))
    x0, y0 = (min(max(v, 0), SIDE - CROP) for v in (x0, y0))
    return scene, np.asarray(picture(scene))[y0 : y0 + CROP, x0 : x0 + CROP]


def to_pixels(pictures: np.ndarray) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
