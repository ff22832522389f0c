"""Pictures and prompts that the tests share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

STEPS, SEED = 6, 3
PROMPT, INSTRUCTION = "a red circle left of a blue square", "make the circle blue"
SETTINGS = {
    "seed": SEED,
    "steps": STEPS,
    "text_guidance": 2.0,
    "negative_prompt": "",
    "solver": "euler",
    "shift": 4.0,
    "renorm": "none",
    "renorm_min": 0.0,
    "guidance_from": 1.0,
    "guidance_to": 0.0,
}


def source(colour: str = "red", size: tuple[int, int] = (128, 128)) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((4, size[1] // 2 - 18, 40, size[1] // 2 + 18), fill=colour)
    draw.rectangle((size[0] - 34, size[1] // 2 - 12, size[0] - 10, size[1] // 2 + 12), fill="blue")
    return picture


def tensor(picture: Image.Image) -> torch.Tensor:
    """IMAGE [1, H, W, 3]."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 255)[None]


def pixels(image: torch.Tensor) -> np.ndarray:
    """uint8 [H, W, 3] of the first picture of an IMAGE or of a decoded video."""
    return (image.reshape(-1, *image.shape[-3:])[0].clamp(0, 1) * 255).round().byte().numpy()


def psnr(a: Any, b: Any) -> float:
    error = float(((np.asarray(a, float) - np.asarray(b, float)) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def empty(count: int = 1, side: int = 128) -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(count, 48, 1, side // 16, side // 16)}
