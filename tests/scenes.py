"""Pictures that several tests look at: a scene of the nano's world, and noise."""

from __future__ import annotations

import torch
from PIL import Image

from lightbagel_core.training.nano.world import Scene, Thing, render

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
