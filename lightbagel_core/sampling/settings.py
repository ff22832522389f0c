"""The settings of a run: one frozen object, resolved once against a model's defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypedDict

import torch

from ..config import Defaults, Renorm, SolverName
from .denoise import check_noise
from .guidance import Guidance


class Asked(TypedDict, total=False):
    """Settings as a caller writes them; what is left out, or None, is the model's own."""

    width: int | None
    height: int | None
    steps: int | None
    solver: SolverName | None
    shift: float | None
    text_guidance: float | None
    image_guidance: float | None
    guidance_interval: tuple[float, float] | None
    renorm: Renorm | None
    renorm_min: float
    seed: int | torch.Generator
    num_images: int


@dataclass(frozen=True)
class Settings:
    """All that a picture depends on beside the model and what is asked of it.

    width, height: of the picture, in pixels, as the model draws it.
    steps, solver, shift: how the flow is followed (docs/model.md, section 7).
    text_guidance, image_guidance, guidance_interval, renorm, renorm_min: see `Guidance`.
    seed: a number, or a torch.Generator; the same one draws the same picture on one device.
    num_images: pictures drawn at once.

    Raises:
        ValueError: a setting outside its range.
    """

    width: int
    height: int
    steps: int
    solver: SolverName
    shift: float
    text_guidance: float
    image_guidance: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    renorm: Renorm = "none"
    renorm_min: float = 0.0
    seed: int | torch.Generator = 0
    num_images: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        check_noise(self.num_images, self.seed)
        _ = self.guidance  # which refuses what it cannot be

    @property
    def guidance(self) -> Guidance:
        return Guidance(self.text_guidance, self.image_guidance, self.guidance_interval, self.renorm, self.renorm_min)

    def to_dict(self) -> dict[str, Any]:
        """The settings for a file; a generator has no name there."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return named if isinstance(self.seed, int) else {**named, "seed": None}


def resolve(
    defaults: Defaults, asked: Asked, fit: Callable[[int, int], tuple[int, int]], source: tuple[int, int] | None = None
) -> Settings:
    """The settings of a run.

    Args:
        fit: the size that the model draws for one that is asked for.
        source: for an edit, the size that the first source picture gives.

    Raises:
        ValueError: a setting outside its range. TypeError: a setting that there is not.
    """
    if source is None and asked.get("image_guidance") is not None:
        raise ValueError("image guidance needs source images: only edits have it")
    width, height = source or (defaults.width, defaults.height)
    own: dict[str, Any] = {
        "width": width,
        "height": height,
        "steps": defaults.steps,
        "solver": defaults.solver,
        "shift": defaults.shift,
        "text_guidance": defaults.text_guidance if source is None else defaults.edit_text_guidance,
        "image_guidance": 1.0 if source is None else defaults.image_guidance,
        "guidance_interval": defaults.guidance_interval,
        "renorm": defaults.renorm,
    }
    found = own | {name: value for name, value in asked.items() if value is not None}
    found["width"], found["height"] = fit(found["width"], found["height"])
    return Settings(**found)
