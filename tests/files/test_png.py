"""PNG files that keep their settings: whole, or a sentence that says what to do."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from lightbagel_core.files.png import write_pngs


def test_the_settings_of_each_picture_are_in_its_text(tmp_path):
    paths = [tmp_path / "a-1.png", tmp_path / "a-2.png"]
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    write_pngs(pictures, paths, {"prompt": "a cat, 猫"})
    for index, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
        with Image.open(path) as read:
            assert read.tobytes() == picture.tobytes()
            assert json.loads(read.text["lightbagel"]) == {"prompt": "a cat, 猫", "index": index}


def test_a_picture_that_a_viewer_has_open_on_windows(tmp_path, monkeypatch):
    paths = [tmp_path / "a-1.png", tmp_path / "a-2.png"]
    replace = os.replace

    def denied(source, target):
        if str(target).endswith("a-2.png"):
            raise PermissionError(13, "The process cannot access the file", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", denied)
    with pytest.raises(ValueError, match=r"write .*a-2\.png: .*cannot access the file; close what has it open, or"):
        write_pngs([Image.new("RGB", (4, 4))] * 2, paths, {})
    assert os.listdir(tmp_path) == ["a-1.png"]


def test_a_full_disk_leaves_no_half_file_and_no_half_set(tmp_path, monkeypatch):
    picture = Image.new("RGB", (64, 64))
    paths = [tmp_path / "a-1.png", tmp_path / "a-2.png"]
    write_pngs([picture], paths[:1], {"kept": True})
    calls = []

    def fill_up(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill_up)
    with pytest.raises(ValueError, match=r"could not write .*a-2\.png: No space left"):
        write_pngs([picture, picture], paths, {})
    assert os.listdir(tmp_path) == ["a-1.png"]
    assert json.loads(Image.open(paths[0]).text["lightbagel"])["kept"] is True
