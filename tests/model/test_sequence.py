"""Positions and visibility on cases small enough to write by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRotaryEmbedding

from lightbagel_core.model.sequence import ImageSegment, TextSegment, check_positions, lay_out, mrope

pytestmark = pytest.mark.usefixtures("threads")


def test_positions_of_text_then_image():
    layout = lay_out([TextSegment(3), ImageSegment("noised", 2, 3)])
    #          text      start grid (t, then h, then w)   end: one past the largest, which is a w
    assert layout.positions.tolist() == [
        [0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 7],
        [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 7],
        [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7],
    ]
    assert layout.und.tolist() == [True] * 4 + [False] * 6 + [True]


def test_positions_run_on_after_images():
    layout = lay_out(
        [ImageSegment("clean", 1, 1), ImageSegment("vit", 3, 1), TextSegment(2), ImageSegment("noised", 1, 1)]
    )
    assert layout.positions[0].tolist() == [0, 1, 2, 3, 4, 4, 4, 7, 8, 9, 10, 11, 12]
    assert layout.positions[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert layout.und.tolist() == [True, False, True] + [True] * 7 + [True, False, True]
    assert layout.segment.tolist() == [0] * 3 + [1] * 5 + [2] * 2 + [3] * 3


def test_more_positions_than_the_vlm_has_are_refused():
    segments = [TextSegment(5), ImageSegment("clean", 2, 3), ImageSegment("vit", 4, 1), ImageSegment("noised", 1, 1)]
    needed = int(lay_out(segments).positions.max()) + 1
    check_positions(segments, needed)
    check_positions(segments, None)
    with pytest.raises(ValueError, match=f"needs {needed} positions, and the VLM has {needed - 1}: use a shorter text"):
        check_positions(segments, needed - 1)


def test_who_sees_whom():
    layout = lay_out([ImageSegment("clean", 1, 1), TextSegment(2), ImageSegment("noised", 1, 1)])
    c, t, n = "ccc", "tt", "nnn"
    expected = {  # rows look at columns: clean image, text, noised image
        "c": (c, ""),
        "t0": (c + "t", ""),
        "t1": (c + t, ""),
        "n": (c + t, n),
    }
    rows = ["c"] * 3 + ["t0", "t1"] + ["n"] * 3
    for i, row in enumerate(rows):
        before, own = expected[row]
        assert layout.visible[i].tolist() == [True] * len(before) + [False] * (5 - len(before)) + [bool(own)] * 3


def test_vit_images_see_both_ways_and_texts_do_not():
    layout = lay_out([TextSegment(2), ImageSegment("vit", 1, 2), TextSegment(2)])
    assert layout.visible[:2, :2].tolist() == [[True, False], [True, True]]
    assert layout.visible[2:6, 2:6].all()
    assert layout.visible[2:6, :2].all()
    assert not layout.visible[:6, 6:].any()
    assert layout.visible[6:, 6:].tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([], "at least one"),
        ([ImageSegment("noised", 1, 1), TextSegment(2)], "last"),
        ([ImageSegment("vit", 0, 3)], "0x3"),
    ],
)
def test_impossible_sequences_are_refused(segments, message):
    with pytest.raises(ValueError, match=message):
        lay_out(segments)


def test_mrope_is_qwens_own():
    config = Qwen2_5_VLTextConfig(
        hidden_size=256,
        num_attention_heads=2,
        rope_theta=1e6,
        rope_scaling={"type": "mrope", "mrope_section": [16, 24, 24]},
    )
    positions = torch.randint(0, 3000, (3, 2, 7), generator=torch.Generator().manual_seed(0))
    module = Qwen2_5_VLRotaryEmbedding(config)
    theirs = module(torch.zeros(1), positions)
    if theirs[0].dim() == 4:  # transformers 4.57 splits the sections where it applies them
        section = [16, 24, 24] * 2
        theirs = tuple(torch.cat([m[i % 3] for i, m in enumerate(x.split(section, -1))], -1) for x in theirs)
    ours = mrope(positions, 128, 1e6, (16, 24, 24))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=0)  # angles reach 3000 rad in float32


def test_mrope_refuses_a_section_that_does_not_fit():
    with pytest.raises(ValueError, match="mrope_section"):
        mrope(torch.zeros(3, 1, dtype=torch.long), 128, 1e6, (16, 24, 23))
