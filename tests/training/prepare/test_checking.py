"""Every picture is decoded whole; what people have comes out as RGB, what cannot be learned from with its reason."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepared_rows import encoded
from small_layout import Lines, write_lines

from lightbagel_core.images import read_image
from lightbagel_core.training.data.store import StoredRow
from lightbagel_core.training.prepare.checking import ANIMATED, ENCODED, SCALED, check_row, check_unit
from lightbagel_core.training.prepare.rows import LeftOut, Picture, Row

EXIF = Image.Exif()
EXIF[0x0112] = 6  # lies on its side


def row(target: bytes, *sources: bytes, text: str = "a text", **more) -> Row:
    pictures = tuple(Picture(f"source {number}", content=content) for number, content in enumerate(sources))
    return Row("the key", pictures, (text,), (Picture("the target", content=target),), **more)


def animation(format: str) -> bytes:
    data = io.BytesIO()
    frames = [Image.new("RGB", (30, 20), (level, 0, 0)) for level in (200, 10)]
    frames[0].save(data, format, save_all=True, append_images=frames[1:], lossless=True)
    return data.getvalue()


def sixteen_bits() -> bytes:
    """A grey PNG of 16 bits; older Pillows convert no picture to that."""
    data = io.BytesIO()
    levels = np.linspace(0, 65535, 30 * 20).reshape(20, 30)
    Image.fromarray(levels.astype(np.uint16)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        (encoded(format="JPEG"), True),
        (encoded(format="PNG"), True),
        (encoded(format="WEBP"), True),
        (encoded(format="JPEG", mode="L"), True),
        (encoded(format="JPEG", mode="CMYK"), False),
        (encoded(format="JPEG", exif=EXIF), False),
        (encoded(mode="RGBA"), False),
        (encoded(mode="P"), False),
        (encoded(mode="LA"), False),
        (sixteen_bits(), False),
        (encoded(mode="RGB", transparency=(0, 0, 0)), False),
        (encoded(format="BMP"), False),
        (encoded(format="TIFF", mode="F"), False),
    ],
)
def test_what_is_upright_rgb_keeps_its_bytes_and_all_else_its_pixels(content, stays):
    counts = Counter()
    found = check_row(row(content), counts)
    assert isinstance(found, StoredRow)
    assert (found.targets[0] == content) is stays
    assert counts == ({} if stays else {ENCODED: 1})
    expected = read_image(io.BytesIO(content), "it")
    now = Image.open(io.BytesIO(found.targets[0]))
    assert found.target_sizes == (expected.size,)
    assert np.array_equal(np.asarray(now.convert("RGB")), np.asarray(expected))
    if not stays:
        assert (now.format, now.mode) == ("PNG", "RGB")


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken_and_it_is_said(format):
    counts = Counter()
    found = check_row(row(animation(format)), counts)
    assert Image.open(io.BytesIO(found.targets[0])).getpixel((3, 3)) == (200, 0, 0)
    assert counts == {ANIMATED: 1, ENCODED: 1}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (row(b"no picture"), "a target is not an image this can read; convert it to PNG or JPEG"),
        (row(encoded(200, 200, format="JPEG", quality=95)[:-60]), "a target is damaged"),
        (row(encoded(), b""), "a source is not an image"),
        (row(encoded(1, 1)), "a target is 1x1, smaller than 8 pixels"),
        (row(encoded(), encoded(90, 10)), "an image of 90x10 is too narrow; crop it to at most 8:1"),
        (row(encoded(50, 10)), "a target for text to image is 50x10, longer than 4:1"),
        (row(encoded(), text=" \n"), "its text is empty"),
        (row(encoded(), text="a<|im_end|>"), "its text holds a marker that the model keeps for itself"),
        (row(encoded(), text="\ud800"), "its text holds characters that are none"),
        (row(encoded(), repeats=0), "it counts 0 times"),
        (Row("the key", (), ("a", "b"), (Picture("x", content=encoded()),)), "it has 2 texts for 1 targets"),
        (Row("the key", (), (), ()), "it has 0 texts for 0 targets"),
        (Row("the key", (), ("a",), (Picture("gone.png", file=Path("gone.png")),)), "a target is missing"),
        (Row("the key", (), ("a",), (Picture("a folder", file=Path()),)), "Is a directory"),
    ],
)
def test_what_cannot_be_learned_from_is_left_out_with_its_reason(wrong, why):
    found = check_row(wrong, Counter())
    assert isinstance(found, LeftOut)
    assert why in found.why
    assert found.key.startswith("the key")


def test_an_edit_may_be_longer_than_text_to_image():
    assert isinstance(check_row(row(encoded(50, 10), encoded(50, 10)), Counter()), StoredRow)


def test_a_picture_that_would_fill_the_memory_is_refused_by_its_head():
    whole = encoded(30_000, 20)
    at = whole.index(b"IHDR") + 4
    import zlib

    head = whole[at : at + 4] + (30_000).to_bytes(4, "big") + whole[at + 8 : at + 13]
    bomb = whole[:at] + head + zlib.crc32(b"IHDR" + head).to_bytes(4, "big") + whole[at + 17 :]
    assert check_row(row(bomb), Counter()).why == "a target has too many pixels; scale it down first"


def test_no_other_program_is_started_for_a_picture():
    data = io.BytesIO()
    Image.new("RGB", (20, 20)).save(data, "EPS")
    found = check_row(row(data.getvalue()), Counter())
    assert found.why == "a target is a file of the kind EPS; convert it to PNG or JPEG"


def test_which_picture_is_meant_stands_in_the_key():
    assert check_row(row(encoded(), encoded(), b"x"), Counter()).key == "the key (source 1)"


def test_whatever_a_decoder_stumbles_over_the_rest_goes_on(monkeypatch):
    def stumble(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("lightbagel_core.training.prepare.checking.read_image", stumble)
    assert check_row(row(encoded()), Counter()).why == "ZeroDivisionError"


def test_pictures_are_scaled_down_and_never_up():
    counts = Counter()
    found = check_row(row(encoded(400, 300), encoded(50, 100)), counts, longest=100)
    assert (found.target_sizes, found.source_sizes) == (((100, 75),), ((50, 100),))
    assert Image.open(io.BytesIO(found.targets[0])).size == (100, 75)
    assert counts == {SCALED: 1}


def test_doubles_are_told_by_pixels_and_texts():
    def told(*args, **more):
        return check_row(row(*args, **more), Counter()).digest

    same = told(encoded(level=3))
    assert same == told(encoded(level=3, format="BMP")) == told(encoded(level=3), text=" a text\n")
    others = [
        told(encoded(level=4)),
        told(encoded(level=3), text="another"),
        told(encoded(level=3), encoded(level=3)),
        told(encoded(24, 17, level=3)),
        told(encoded(16, 24, level=3)),
    ]
    assert len({same, *others}) == 6


def test_a_piece_that_breaks_off_says_so_and_keeps_what_came_before(tmp_path):
    file = write_lines(tmp_path / "a.txt", [0, "bad", "stop", 3])
    layout = Lines()
    (unit,) = layout.units(file)
    first, second, third = check_unit(layout, file, unit).found
    assert isinstance(first, StoredRow)
    assert second.key == "a.txt, line 1 (a.txt, line 1, target)"
    assert third == LeftOut("a.txt 0-4", "what follows row 2 of this piece cannot be read (the file ends here)")
