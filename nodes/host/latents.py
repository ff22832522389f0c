"""The form of a LATENT: to ComfyUI, Wan is a video model; LightBagel draws pictures.

Its latents are [B, C, h, w], as every image model's, so that nodes which crop, turn, blend or tile latents know what
they have. One frame of a video, [B, C, 1, h, w], as old workflows and native Wan nodes make it, is taken as well and
given back so. A run knows [B, C, h, w] only; the frame axis exists where Wan itself is called (`hooks.Fused`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import torch
from torch import Tensor

from ...lightbagel_core.config import Preview

COUNTED = 8  # pixels a cell of an area, as ComfyUI's nodes count them for every model


class ImageFormat(comfy.latent_formats.Wan22):
    """Wan2.2's latent format for single pictures, with a VAE's own statistics and preview colours."""

    latent_dimensions = 2

    def __init__(self, mean: Tensor, std: Tensor, preview: Preview | None = None) -> None:
        """`mean`, `std`: one value a channel, of any shape."""
        super().__init__()
        self.latents_mean, self.latents_std = (x.reshape(1, -1, 1, 1) for x in (mean, std))
        self.latent_channels = self.latents_mean.shape[1]
        self.temporal_downscale_ratio = 1
        self.taesd_decoder_name = None  # the small decoder of this name takes videos, and would show a single row
        if preview is not None:
            self.latent_rgb_factors, self.latent_rgb_factors_bias = preview.factors, preview.bias

    def process_in(self, latent: Tensor, **kwargs: Any) -> Tensor:
        mean, std = self._statistics(latent)
        return (latent - mean) * self.scale_factor / std

    def process_out(self, latent: Tensor, **kwargs: Any) -> Tensor:
        mean, std = self._statistics(latent)
        return latent * std / self.scale_factor + mean

    def _statistics(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel, to be broadcast to [B, C, h, w] or [B, C, T, h, w].

        Raises:
            ValueError: the latents are another model's; a node's that ComfyUI hands over before a run looks at it, too.
        """
        checked_channels(latent, self.latent_channels, "latent")
        shape = (1, -1, *(1 for _ in latent.shape[2:]))
        mean, std = (x.to(latent).reshape(shape) for x in (self.latents_mean, self.latents_std))
        return mean, std


def is_native(model: Any) -> bool:
    """Whether a MODEL's latents are Wan's own, those of videos."""
    return bool(model.get_model_object("latent_format").latent_dimensions == 3)


def as_pictures(latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] of a LATENT's [B, C, h, w] or [B, C, 1, h, w].

    Raises:
        ValueError: they are a video's, or of no picture at all.
    """
    if latents.ndim == 4:
        return latents
    if latents.ndim != 5:
        raise ValueError(
            f"LightBagel draws pictures: its latents are [batch, channels, height, width]; this one is "
            f"{list(latents.shape)}. Begin with an empty latent image, or VAE Encode a picture."
        )
    if latents.shape[2] != 1:
        raise ValueError(
            f"LightBagel draws single images; this latent has {latents.shape[2]} frames. Set the length of the node "
            "that made it to 1, or begin with an empty latent image."
        )
    return latents[:, :, 0]


def checked_channels(latents: Tensor, channels: int, name: str = "latent_image") -> Tensor:
    """Latents that came by an input of this name.

    Raises:
        ValueError: they are another model's.
    """
    if latents.shape[1] != channels:
        raise ValueError(
            f"the {name} input has {latents.shape[1]} channels: it is another model's; LightBagel's have {channels}. "
            "Decode it with its own VAE and encode the picture with LightBagel's."
        )
    return latents


def with_frame(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A sampler's callback that is told of pictures as of one frame each."""

    def told(step: int, x0: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return callback(step, x0[:, :, None], x[:, :, None], *args, **kwargs)

    return told


def in_cells(area: tuple[Any, ...], pixels: int) -> tuple[Any, ...]:
    """A condition's area, (height, width, y, x), in cells of so many pixels, of one that counts 8 pixels a cell.

    What lies between cells is widened to them. Shares of the picture, ("percentage", ...), need no counting. Of a
    video's areas, (frames, height, width, ...), the frames are left out.
    """
    numbers = area[1:] if area[0] == "percentage" else area
    half = len(numbers) // 2
    height, width, y, x = *numbers[half - 2 : half], *numbers[-2:]
    if area[0] == "percentage":
        return ("percentage", height, width, y, x)
    (top, bottom), (left, right) = (
        (at * COUNTED // pixels, math.ceil((at + size) * COUNTED / pixels)) for at, size in ((y, height), (x, width))
    )
    return (max(1, bottom - top), max(1, right - left), top, left)


def check_inside(area: tuple[Any, ...], pictures: Tensor, pixels: int) -> None:
    """Raises ValueError when an area in cells, or in shares, begins at or beyond the edge of the pictures."""
    sides = pictures.shape[-2:]
    shares = area[0] == "percentage"
    starts = [round(at * side) for at, side in zip(area[-2:], sides, strict=True)] if shares else area[-2:]
    if any(start >= side for start, side in zip(starts, sides, strict=True)):
        (y, x), (height, width) = ([n * pixels for n in each] for each in (starts, sides))
        raise ValueError(
            f"an area of a conditioning (ConditioningSetArea) begins at x {x}, y {y}, outside the picture of {width} x "
            f"{height} pixels: set its x and y to a place inside, or draw a larger picture"
        )


def conds_in_cells(conds: dict[str, Any], pictures: Tensor, pixels: int) -> dict[str, Any]:
    """A run's conditions, {name: conditions}, with their areas in the cells of its pictures, of so many pixels.

    Raises:
        ValueError: an area lies outside the pictures.
    """

    def placed(cond: dict[str, Any]) -> dict[str, Any]:
        if "area" not in cond:
            return cond
        area = in_cells(cond["area"], pixels)
        check_inside(area, pictures, pixels)
        return {**cond, "area": area}

    return {name: each and [placed(cond) for cond in each] for name, each in conds.items()}


def one_frame(shape: Any) -> torch.Size:
    """The shape of pictures, [B, C, h, w], as of one frame each."""
    return torch.Size([*shape[:2], 1, *shape[2:]])
