"""Guidance and renorm against their formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from lightbagel_core.sampling.guidance import Guidance, combine


def three(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 4, 4, generator=generator) for _ in range(3)]


def test_text_guidance_then_image_guidance():
    v, negative, no_image = three()
    text = negative + 3 * (v - negative)
    torch.testing.assert_close(combine([v, negative], Guidance(3)), text)
    torch.testing.assert_close(combine([v, negative, no_image], Guidance(3, 2)), no_image + 2 * (text - no_image))


def test_branches():
    assert Guidance(1.0, 5.0).branches == ("full",)
    assert Guidance(3.0, 1.0).branches == ("full", "negative")
    assert Guidance(3.0, 1.5).branches == ("full", "negative", "no_image")


def test_interval_is_open_below_and_closed_above():
    guidance = Guidance(3, interval=(0.25, 0.75))
    assert [guidance.active(t) for t in (0.2, 0.25, 0.26, 0.75, 0.76)] == [False, False, True, True, False]
    assert not Guidance(1).active(0.5)


def test_renorm_global_and_channel():
    v, negative, no_image = three(1)
    out = combine([v, negative, no_image], Guidance(4, 2))
    got = combine([v, negative, no_image], Guidance(4, 2, renorm="global"))
    for b in range(2):
        factor = min(1.0, float(v[b].norm() / out[b].norm()))
        torch.testing.assert_close(got[b], out[b] * factor)
    got = combine([v, negative, no_image], Guidance(4, 2, renorm="channel"), patch=2)
    for r in range(2):
        for c in range(2):
            token = (slice(None), slice(None), slice(2 * r, 2 * r + 2), slice(2 * c, 2 * c + 2))
            for b in range(2):
                factor = min(1.0, float(v[token][b].norm() / out[token][b].norm()))
                torch.testing.assert_close(got[token][b], out[token][b] * factor)


def test_renorm_text_channel_acts_before_the_image_step():
    v, negative, no_image = three(2)
    text = combine([v, negative], Guidance(4, renorm="channel"), patch=2)
    expected = no_image + 2 * (text - no_image)
    torch.testing.assert_close(
        combine([v, negative, no_image], Guidance(4, 2, renorm="text_channel"), patch=2), expected
    )


def test_renorm_minimum_and_never_above_one():
    v = torch.full((1, 1, 2, 2), 1.0)
    negative = torch.full((1, 1, 2, 2), -1.0)  # guided by 4: 7, so the factor 1/7
    assert combine([v, negative], Guidance(4, renorm="global", renorm_min=0.5)).unique().item() == pytest.approx(3.5)
    closer = torch.full((1, 1, 2, 2), 2.0)  # guided by 1.5: 0.5, shorter than v: left alone
    assert combine([v, closer], Guidance(1.5, renorm="global")).unique().item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    "bad",
    [
        {"text": math.nan},
        {"image": math.inf},
        {"interval": (0.5, 0.5)},
        {"interval": (-0.1, 1.0)},
        {"renorm": "loud"},
        {"renorm_min": math.nan},
    ],
)
def test_impossible_guidance_is_refused(bad):
    with pytest.raises(ValueError, match=r"must be|must satisfy"):
        Guidance(**bad)
