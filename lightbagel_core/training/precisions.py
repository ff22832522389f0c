"""What a stage's words for dtypes mean: of what stays frozen, and of what is trained."""

from __future__ import annotations

import torch

from ..files.precision import Precision
from .stages import BaseDtype, Stage

BASES: dict[BaseDtype, Precision] = {
    "float32": Precision(torch.float32, False),
    "bfloat16": Precision(torch.bfloat16, False),
    "float8": Precision(torch.bfloat16, True),
}


def computed(stage: Stage) -> torch.dtype:
    """The dtype of matrix products."""
    return torch.float32 if stage.precision == "float32" else torch.bfloat16


def trained_precision(stage: Stage) -> Precision:
    """That of the weights that are trained: under "bfloat16-mixed" they are float32."""
    return BASES["bfloat16" if stage.precision == "bfloat16" else "float32"]
