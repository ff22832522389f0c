"""Pictures that several tests look at: a scene of the nano's world, and noise."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from lightbagel_core.world.scenes import Scene, Thing, render

RED = Thing("circle", "red", "large", "left")
BLUE = Thing("square", "blue", "small", "right", 1, -2)
PAIR = Scene("white", (RED, BLUE))
PICTURE = Image.fromarray(render(PAIR))


def noise_picture(index: int, width: int = 96, height: int = 96) -> Image.Image:
    """A picture of coloured noise, another for each index."""
    generator = torch.Generator().manual_seed(index)
    pixels = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def one_thing(shape: str, colour: str, size: tuple[int, int] = (128, 128)) -> Image.Image:
    """A large thing in the middle of white."""
    return Image.fromarray(render(Scene("white", (Thing(shape, colour, "large", "centre"),)))).resize(size)


def assert_alike(a: Image.Image, b: Image.Image, dtype: torch.dtype = torch.float32) -> None:
    """Two pictures are the same but for the order in which their numbers were added up.

    Another number of threads, another batch or weights elsewhere in memory may give other roundings: between one thread
    and two, one value in 18,000 differed by one level. A single bias off by 0.02 moves the mean by 0.008 levels (0.26
    in half precision, where roundings are coarser), another seed by 17.
    """
    levels = np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int))
    largest, mean = (1, 0.001) if dtype == torch.float32 else (3, 0.1)
    assert levels.max() <= largest
    assert levels.mean() <= mean
