"""The VLM's throw-away heads.

Two read the merged ViT tokens: the scene from all of them, and from each alone the thing it shows. One reads the scene
to be drawn from the drawing path's states at the target's start marker, one reads it at the end of an instruction, and
where it differs from the source; one reads at each name of a thing where that stands (pointing.py). They stand in for
what a 7 B model knows: its states hold the scene a sentence speaks of.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...world.scenes import PLACES
from .codes import CELL, CHANGED, IGNORE, SCENE
from .shape import GRID


def classes_loss(logits: Tensor, codes: Tensor, sizes: list[int]) -> Tensor:
    """Mean cross-entropy of several classes each; logits [B, sum(sizes)], codes int64 [B, len(sizes)]."""
    losses = [
        F.cross_entropy(p, codes[:, i], ignore_index=IGNORE) for i, p in enumerate(logits.float().split(sizes, dim=1))
    ]
    return torch.stack([torch.nan_to_num(x) for x in losses]).mean()


class Reader(nn.Module):
    """Linear readers of one token's state after each later layer."""

    def __init__(self, hidden: int, depth: int, sizes: list[int]) -> None:
        super().__init__()
        self.layers, self.sizes = range(1, depth), sizes
        self.norms = nn.ModuleList(nn.RMSNorm(hidden) for _ in self.layers)
        self.heads = nn.ModuleList(nn.Linear(hidden, sum(sizes)) for _ in self.layers)

    def forward(self, states: Sequence[Tensor], codes: Tensor) -> Tensor:
        """Mean loss over the layers; states depth x [B, hidden], codes int64 [B, len(sizes)]."""
        losses = [
            classes_loss(head(norm(states[i])), codes, self.sizes)
            for i, norm, head in zip(self.layers, self.norms, self.heads, strict=True)
        ]
        return torch.stack(losses).mean()


class Heads(nn.Module):
    """All of them, for a VLM of a hidden size and depth."""

    def __init__(self, hidden: int, depth: int) -> None:
        super().__init__()
        self.vit = nn.Linear(hidden * GRID * GRID, sum(SCENE))
        self.cell = nn.Linear(hidden, sum(CELL))
        self.marker = Reader(hidden, depth, SCENE)
        self.wanted = Reader(hidden, depth, SCENE + CHANGED)
        self.pointed = Reader(hidden, depth, [len(PLACES)])

    def vit_loss(self, features: Tensor, scenes: Tensor, cells: Tensor) -> Tensor:
        """Loss over the ViT tokens of pictures.

        Args:
            features: [B, tokens, hidden]. scenes: int64 [B, len(SCENE)]. cells: int64 [B, tokens, len(CELL)].
        """
        of_scenes = classes_loss(self.vit(features.flatten(1)), scenes, SCENE)
        of_cells = classes_loss(self.cell(features.flatten(0, 1)), cells.flatten(0, 1), CELL)
        return of_scenes + len(CELL) * of_cells
