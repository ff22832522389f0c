"""Classifier-free guidance in velocity space, by the text and by the images, and its renorm. Pure, torch only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from ..config import Renorm


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance in velocity space (docs/model.md, section 7).

    text, image: scales; text <= 1 turns all guidance off, image > 1 adds the image step.
    interval: acts where lo < t <= hi, t after the shift.
    renorm, renorm_min: the norm of the guided velocity is brought back to the conditional one's, by a factor in
    [renorm_min, 1]: over the whole image, per token, or per token before the image step.

    Raises:
        ValueError: a scale that is not finite, an interval outside 0 <= lo < hi <= 1, an unknown renorm.
    """

    text: float = 3.0
    image: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    renorm: Renorm = "none"
    renorm_min: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("text", self.text), ("image", self.image)):
            if not math.isfinite(value):
                raise ValueError(f"the {name} guidance must be a finite number, not {value}")
        if not 0 <= self.renorm_min <= 1:
            raise ValueError(f"the renorm minimum must be between 0 and 1, not {self.renorm_min}")
        lo, hi = self.interval
        if not 0 <= lo < hi <= 1:
            raise ValueError(f"the guidance interval must satisfy 0 <= lo < hi <= 1, not {lo}..{hi}")
        if self.renorm not in get_args(Renorm):
            raise ValueError(f"renorm must be one of {', '.join(get_args(Renorm))}, not {self.renorm!r}")

    @property
    def branches(self) -> tuple[str, ...]:
        """The velocities a guided step needs, in the order `combine` takes them."""
        if self.text <= 1:
            return ("full",)
        return ("full", "negative", "no_image") if self.image > 1 else ("full", "negative")

    @property
    def plain(self) -> bool:
        """Whether a guided step is nothing but negative + text (full - negative)."""
        return len(self.branches) < 3 and self.renorm == "none"

    def active(self, t: float) -> bool:
        return len(self.branches) > 1 and self.interval[0] < t <= self.interval[1]


def _renormed(guided: Tensor, full: Tensor, dims: tuple[int, ...], minimum: float) -> Tensor:
    norm = torch.linalg.vector_norm
    ratio = norm(full, dim=dims, keepdim=True) / (norm(guided, dim=dims, keepdim=True) + 1e-8)
    return guided * ratio.clamp(minimum, 1.0)


def _per_token(x: Tensor, patch: int) -> Tensor:
    """[B, C, h, w] to [B, h/p, w/p, C*p*p]: one row per DiT token."""
    return x.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5).flatten(3)


def _from_tokens(x: Tensor, channels: int, patch: int) -> Tensor:
    x = x.unflatten(3, (channels, patch, patch)).permute(0, 3, 1, 4, 2, 5)
    return x.flatten(4, 5).flatten(2, 3)


def combine(velocities: list[Tensor], guidance: Guidance, patch: int = 1) -> Tensor:
    """The guided velocity of one step.

    Args:
        velocities: [B, C, h, w] each, for `guidance.branches`.
        patch: latents per token side; "per token" renorms take a norm over all of a token's values.
    """
    full = velocities[0]
    if len(velocities) == 1:
        return full
    out = velocities[1] + guidance.text * (full - velocities[1])
    per_token = guidance.renorm in ("channel", "text_channel")

    def renorm(guided: Tensor) -> Tensor:
        if not per_token:
            return _renormed(guided, full, (1, 2, 3), guidance.renorm_min)
        tokens = _renormed(_per_token(guided, patch), _per_token(full, patch), (3,), guidance.renorm_min)
        return _from_tokens(tokens, guided.shape[1], patch)

    if guidance.renorm == "text_channel":
        out = renorm(out)
    if len(velocities) == 3:
        out = velocities[2] + guidance.image * (out - velocities[2])
    return renorm(out) if guidance.renorm in ("global", "channel") else out
