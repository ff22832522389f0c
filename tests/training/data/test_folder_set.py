"""A folder of pictures and texts as examples; what is wrong with one is said at once."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from lightbagel_core.training.data import folder_set
from lightbagel_core.training.data.folder_set import FolderSet
from lightbagel_core.training.data.sizes import FILE


def picture(path, width=40, height=30, level=100, **options):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (width, height), (level, 0, 0)).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    for name, text in {"cat": "a cat", "hat": "add a hat\n", "two": "Füge beide zusammen", "q.1": "dots"}.items():
        picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    picture(tmp_path / "sources" / "hat.jpg", 64, 48)
    for number in (10, 2):
        picture(tmp_path / "sources" / f"two_{number}.webp", 32 + number, 32, level=number)
    (tmp_path / "notes.md").write_text("not a picture", "utf-8")
    return tmp_path


def test_pictures_texts_and_sources_belong_together_by_name(folder):
    examples = FolderSet(folder)
    assert examples.count == 4
    cat, hat, dots, two = (examples[i] for i in range(4))
    assert [e.turns[0].text for e in (cat, hat, dots, two)] == ["a cat", "add a hat", "dots", "Füge beide zusammen"]
    assert [e.edit for e in (cat, hat, dots, two)] == [False, True, False, True]
    assert [s.size for s in two.sources] == [(34, 32), (42, 32)]  # 2 before 10
    for i in range(4):
        example, shape = examples[i], examples.shape(i)
        assert shape.sources == tuple(s.size for s in example.sources)
        assert shape.targets == (example.turns[0].target.size,)
    assert examples.shape(0).words == (2,)


def test_a_shape_comes_from_the_head_alone_and_is_upright(folder, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture(folder / "cat.jpg", 80, 20, exif=exif)
    (folder / "cat.png").unlink()
    assert FolderSet(folder)[0].turns[0].target.size == (20, 80)
    monkeypatch.setattr(folder_set, "open_image", None)
    for kind in (Image.Image, PngImageFile):
        monkeypatch.setattr(kind, "load", None)
    (folder / FILE).unlink()
    examples = FolderSet(folder)
    assert examples.left_out == []
    assert examples.shape(0).targets == ((20, 80),)
    assert examples.shape(1).targets == ((40, 30),)


def test_all_that_is_wrong_is_said_at_once(folder):
    (folder / "cat.txt").unlink()
    (folder / "two.txt").write_text(" \n", "utf-8")
    (folder / "q.1.txt").write_bytes(b"\xff\xfe\xff")
    picture(folder / "hat.webp")
    picture(folder / "sources" / "dog.png")
    with pytest.raises(ValueError, match="cannot be learned from") as error:
        FolderSet(folder)
    for said in (
        "there is no cat.txt",
        "two.txt is empty",
        "q.1.txt cannot be read as UTF-8",
        "hat.png and hat.webp share a name",
        "sources/dog.png has no target",
    ):
        assert said in str(error.value)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        FolderSet(folder / "empty")
    with pytest.raises(ValueError, match="there is no folder"):
        FolderSet(folder / "nowhere")


def test_what_cannot_be_opened_is_left_out_and_counted(folder, monkeypatch):
    (folder / "cat.png").write_bytes(b"no picture")
    picture(folder / "sources" / "hat.jpg", 90, 10)  # longer than 8:1, as no picture may be
    picture(folder / "q.1.png", 100, 20)  # longer than 4:1, as none for text to image may be
    picture(folder / "sources" / "two_2.webp", 100, 20)
    examples = FolderSet(folder)
    assert examples.count == 1
    assert examples[0].turns[0].text == "Füge beide zusammen"
    assert examples.shape(0).sources[0] == (100, 20)
    for said, expected in zip(
        examples.left_out,
        (r"cat\.png is not an image", r"hat\.jpg is 90x10, longer than 8:1", r"q\.1\.png is 100x20, longer than 4:1"),
        strict=True,
    ):
        assert re.search(expected, said)
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 500
    )  # of the target too many, and of a source more than twice as many
    (folder / FILE).unlink()
    with pytest.raises(ValueError, match=r"cannot be learned from: .*two.* has too many pixels"):
        FolderSet(folder)


def test_another_content_is_another_identity(folder):
    before = FolderSet(folder).identity
    assert FolderSet(folder).identity == before
    (folder / "cat.txt").write_text("another cat", "utf-8")
    text = FolderSet(folder).identity
    picture(folder / "cat.png", level=7, compress_level=0)
    assert len({before, text, FolderSet(folder).identity}) == 3
    assert np.asarray(FolderSet(folder)[0].turns[0].target)[0, 0, 0] == 7
