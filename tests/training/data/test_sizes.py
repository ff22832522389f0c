"""Sizes are those of the pictures when they are opened, and each picture's head is read once for all runs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lightbagel_core.images import open_image
from lightbagel_core.training.data import sizes
from lightbagel_core.training.data.sizes import FILE, Sizes


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the pictures whose heads are read."""
    found, true = [], sizes.measured
    monkeypatch.setattr(sizes, "measured", lambda path: found.append(path.name) or true(path))
    return found


def test_a_size_is_that_of_the_opened_picture(tmp_path):
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 60, 3), np.uint8))
    exif = Image.Exif()
    for turned in range(1, 9):
        exif[0x0112] = turned
        for name in ("a.jpg", "a.png", "a.webp"):
            pixels.save(tmp_path / name, exif=exif)
            assert (
                Sizes(tmp_path).of(tmp_path / name)
                == open_image(tmp_path / name).size
                == ((60, 20) if turned < 5 else (20, 60))
            )


def test_what_open_image_refuses_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for name, size in {"narrow.png": (90, 11), "large.png": (40, 30), "huge.png": (100, 90)}.items():
        Image.new("RGB", size).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "large.png").read_bytes()[:20])
    for name in ("narrow.png", "large.png", "huge.png", "cut.png"):
        for asked in (open_image, Sizes(tmp_path).of):
            with pytest.raises(ValueError, match=r"narrow|longer|too many pixels|damaged|not an image"):
                asked(tmp_path / name)


def test_a_head_is_read_again_only_where_the_file_is_another(tmp_path, read):
    (tmp_path / "sources").mkdir()
    files = [tmp_path / "a.png", tmp_path / "sources" / "a.png"]
    for number, file in enumerate(files, start=1):
        Image.new("RGB", (10 * number, 10)).save(file)
    for _ in range(2):
        some = Sizes(tmp_path)
        assert [some.of(file) for file in files] == [(10, 10), (20, 10)]
        some.keep()
    assert read == ["a.png", "a.png"]
    Image.new("RGB", (33, 44)).save(files[0])
    assert Sizes(tmp_path).of(files[0]) == (33, 44)
    assert len(read) == 3
    (tmp_path / FILE).write_text('{"a.png": [1, 2], "b": 3}', "utf-8")  # damaged: as if it were not there
    assert Sizes(tmp_path).of(files[0]) == (33, 44)


def test_a_folder_that_cannot_be_written_to_goes_without(tmp_path, monkeypatch):
    def full(*_):
        raise ValueError("could not write")

    monkeypatch.setattr(sizes, "write_whole", full)
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    some = Sizes(tmp_path)
    assert some.of(tmp_path / "a.png") == (10, 10)
    some.keep()
    assert not (tmp_path / FILE).exists()
