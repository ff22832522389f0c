"""Whole segments of a training sample are dropped independently, which is what guidance without them needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class SegmentDropout:
    """Shares of segments that are dropped, markers included; default: the paper's (docs/model.md, section 9)."""

    text: float = 0.1
    clean: float = 0.1
    vit: float = 0.5

    def keeps(self, kind: Literal["text", "clean", "vit"], rng: np.random.Generator) -> bool:
        """Draws whether one segment stays."""
        share: float = getattr(self, kind)
        return bool(rng.random() >= share)
