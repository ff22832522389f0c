"""Pictures people bring: every mode, every defect."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from lightbagel_core.config import ImageRule
from lightbagel_core.images import (
    from_pixels,
    image_tokens,
    open_image,
    read_image,
    round_size,
    size_by_rule,
    to_pixels,
    to_rgb,
)

REAL = ImageRule(1024, 512, 32)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 1024), (1024, 1024)),
        ((800, 600), (800, 608)),
        ((2048, 1024), (1024, 512)),
        ((100, 100), (512, 512)),
        ((300, 200), (768, 512)),
        ((4000, 1000), (1024, 256)),  # both limits cannot hold; the long one does
        ((1, 1), (512, 512)),
    ],
)
def test_size_by_rule(size, expected):
    assert size_by_rule(*size, REAL) == expected
    assert size_by_rule(*size[::-1], REAL) == expected[::-1]


def test_a_picture_has_a_token_for_each_stride_squared():
    assert [image_tokens((1024, 1024), rule) for rule in (REAL, ImageRule(532, 224, 28))] == [1024, 361]
    assert image_tokens((4000, 1000), REAL) == 32 * 8


def test_asked_sizes_are_rounded_or_refused():
    assert round_size(100, 110, 32, 2048) == (96, 96)
    assert round_size(8, 200, 32, 2048) == (32, 192)
    for bad in ((0, 64), (64, -1), (4096, 64)):
        with pytest.raises(ValueError, match="between 1 and 2048"):
            round_size(*bad, 32, 2048)


def test_alpha_lies_on_white():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((1, 1), (0, 0, 255, 255))
    rgb = to_rgb(image)
    assert rgb.getpixel((0, 0)) == (255, 255, 255)
    assert rgb.getpixel((1, 1)) == (0, 0, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "I;16", "I", "F", "RGBA"])
def test_every_mode_becomes_rgb(mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    elif mode in ("I", "F"):
        image = Image.new(mode, (4, 4), 65535 if mode == "I" else 1.0)
    else:
        image = Image.new("RGB", (4, 4), "white").convert(mode)
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    assert min(rgb.getpixel((2, 2))) >= 253


def test_files_open_upright_first_frame(tmp_path):
    path = tmp_path / "a.gif"
    Image.new("RGB", (8, 8), "red").save(path, save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert open_image(path).getpixel((0, 0))[0] > 200
    turned = Image.new("RGB", (8, 4))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "b.jpg", exif=exif)
    assert open_image(tmp_path / "b.jpg").size == (4, 8)


def bad_file(folder, kind):
    path = folder / "bad.png"
    if kind == "text":
        path.write_text("no picture", "utf-8")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        Image.effect_noise((64, 64), 80).save(path)
        path.write_bytes(path.read_bytes()[:600])
    elif kind == "wide":
        Image.new("RGB", (30000, 20)).save(path)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no image file"),
        ("folder", "no image file"),
        ("text", "not an image"),
        ("empty", "not an image"),
        ("truncated", "damaged"),
        ("wide", "too narrow"),
    ],
)
def test_bad_files_are_named(tmp_path, kind, message):
    path = bad_file(tmp_path, kind)
    with pytest.raises(ValueError, match=message):
        open_image(path)


def test_a_picture_in_a_file_of_others(tmp_path):
    Image.new("RGBA", (8, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert read_image(BytesIO(content), "row 3").getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match=r"^row 3 is damaged"):
        read_image(BytesIO(content[:-30]), "row 3")


def test_too_many_pixels(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="too many pixels"):
        open_image(tmp_path / "a.png")


def test_pixels_round_trip_and_nan_is_refused():
    image = Image.effect_noise((8, 6), 90).convert("RGB")
    pixels = to_pixels(image)
    assert pixels.shape == (3, 6, 8)
    assert -1 <= pixels.min() < pixels.max() <= 1
    assert np.array_equal(np.asarray(from_pixels(pixels)), np.asarray(image))
    with pytest.raises(ValueError, match="NaN"):
        from_pixels(torch.full((3, 2, 2), float("nan")))
