"""Pictures in and out: opening what people have, sizing it by the model's rules, pixels to tensors.

(docs/model.md, section 6)
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .config import ImageRule

MAX_ASPECT = 8.0  # beyond this the long side's limit would leave a sliver of the short one


def open_image(path: str | Path) -> Image.Image:
    """An RGB picture from a file.

    Raises:
        ValueError: the file is missing, no picture, damaged, or too large; the message says what to do.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ValueError(f"there is no image file {path}")
    except PermissionError:
        raise ValueError(f"{path} may not be read; change its permissions or use a copy") from None
    return read_image(path, str(path))


def read_image(source: Path | BinaryIO, name: str) -> Image.Image:
    """An RGB picture from a file that is there, or from an open one.

    Args:
        name: what messages call it.

    Raises:
        ValueError: it is no picture, damaged, or too large; the message says what to do.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                image.load()
                return to_rgb(image)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image this can read; convert it to PNG or JPEG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{name} has too many pixels; scale it down first") from None
    except PermissionError:
        raise ValueError(f"{name} may not be read; change its permissions or use a copy") from None
    except (OSError, SyntaxError, EOFError, struct.error) as error:
        raise ValueError(f"{name} is damaged ({error}); save it again or use another file") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL picture as 8-bit RGB, upright as its EXIF says: alpha on white, 16-bit scaled down, an animation's frame.

    Raises:
        ValueError: the picture is more than 8 times as long as wide (or as wide as long).
    """
    image = ImageOps.exif_transpose(image)
    if max(image.size) > MAX_ASPECT * min(image.size):
        width, height = image.size
        raise ValueError(f"an image of {width}x{height} is too narrow; crop it to at most {MAX_ASPECT:.0f}:1")
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        image = Image.fromarray((values * (255 if values.max() <= 1 else 1)).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _on_stride(value: float, stride: int) -> int:
    return max(stride, round(value / stride) * stride)


def size_by_rule(width: int, height: int, rule: ImageRule) -> tuple[int, int]:
    """(width, height) a picture gets: aspect kept, sides on the stride; where the limits clash the long one wins."""
    scale = max(min(rule.long / max(width, height), 1.0), rule.short / min(width, height))
    size = _on_stride(width * scale, rule.stride), _on_stride(height * scale, rule.stride)
    if max(size) > rule.long:
        scale = rule.long / max(size)
        size = _on_stride(size[0] * scale, rule.stride), _on_stride(size[1] * scale, rule.stride)
    return size


def image_tokens(size: tuple[int, int], rule: ImageRule) -> int:
    """How many tokens a picture of (width, height) pixels has once it is sized by a rule."""
    width, height = size_by_rule(*size, rule)
    return (width // rule.stride) * (height // rule.stride)


def round_size(width: int, height: int, stride: int, largest: int) -> tuple[int, int]:
    """An asked-for output size on the stride, at least one stride.

    Raises:
        ValueError: a side below 1 or above `largest`.
    """
    if min(width, height) < 1 or max(width, height) > largest:
        raise ValueError(f"a size of {width}x{height} does not work; each side must lie between 1 and {largest}")
    return _on_stride(width, stride), _on_stride(height, stride)


def resized(image: Image.Image, rule: ImageRule) -> Image.Image:
    """An RGB picture resized by a rule, bicubic."""
    return image.resize(size_by_rule(*image.size, rule), Image.Resampling.BICUBIC)


def to_pixels(image: Image.Image) -> Tensor:
    """RGB picture to float32 [3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


def from_pixels(pixels: Tensor) -> Image.Image:
    """[3, H, W] in [-1, 1] to an RGB picture.

    Raises:
        ValueError: the pixels are not all finite numbers.
    """
    if not bool(torch.isfinite(pixels).all()):
        raise ValueError("the picture came out as NaN; use --dtype float32 or other guidance settings")
    levels = ((pixels.float() + 1) * 127.5).round().clamp(0, 255)
    return Image.fromarray(levels.byte().permute(1, 2, 0).cpu().numpy())
