"""ComfyUI's IMAGE tensors to pictures, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from ...lightbagel_core import images
from ...lightbagel_core.config import ImageRule


def pictures(batches: Sequence[torch.Tensor]) -> list[Image.Image]:
    """RGB pictures of IMAGE tensors [B, H, W, C] in 0..1, one after the other; alpha on white.

    Raises:
        ValueError: values that are no numbers, or a picture too narrow to use.
    """
    found = []
    for batch in batches:
        if not bool(torch.isfinite(batch).all()):
            raise ValueError("an image holds values that are no numbers (NaN); the node that made it went wrong")
        for pixels in (batch.clamp(0, 1) * 255).round().byte().cpu().numpy():
            grey = pixels.shape[-1] == 1
            found.append(images.to_rgb(Image.fromarray(pixels[..., 0] if grey else pixels)))
    return found


def sized(picture: Image.Image, rule: ImageRule) -> torch.Tensor:
    """An IMAGE [1, H, W, 3] of a picture in the size the model draws it in."""
    return (images.to_pixels(images.resized(picture, rule)).movedim(0, -1)[None] + 1) / 2
