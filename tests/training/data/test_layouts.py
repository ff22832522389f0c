"""Kept layouts are those that would be made, and long ones are not kept."""

from __future__ import annotations

import torch

from lightbagel_core.model.sequence import ImageSegment, TextSegment, lay_out
from lightbagel_core.training.data.layouts import SHORT, laid_out


def test_a_short_layout_is_made_once():
    segments = [TextSegment(5), ImageSegment("vit", 2, 3), ImageSegment("noised", 2, 2)]
    found, expected = laid_out(segments), lay_out(segments)
    for name in ("positions", "und", "segment", "visible"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert laid_out(list(segments)) is found
    assert laid_out([TextSegment(6), *segments[1:]]) is not found


def test_a_long_layout_is_not_kept():
    segments = [TextSegment(SHORT), ImageSegment("noised", 1, 1)]
    assert laid_out(segments) is not laid_out(segments)
