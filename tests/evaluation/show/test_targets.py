"""Files that are to be written are looked at before anything is."""

from __future__ import annotations

import os

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lightbagel_core.evaluation.show.targets import MADE_BY, PICTURE, TEXT, check_targets


def refused(message, *files, runs=()):
    with pytest.raises(ValueError, match=message) as caught:
        check_targets(files, runs)
    assert "\n" not in str(caught.value)


def test_good_targets_are_let_through_and_left_alone(tmp_path):
    check_targets([(tmp_path / "a.md", TEXT), (tmp_path / "a.TXT", TEXT), (tmp_path / "a.PNG", PICTURE)], [tmp_path])
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    (tmp_path / "dir.png").mkdir()
    refused("does not end in .png", (tmp_path / "a.json", PICTURE))
    refused("there is no folder", (tmp_path / "none" / "a.png", PICTURE))
    refused("it is a folder", (tmp_path / "dir.png", PICTURE))
    refused("named twice", (tmp_path / "a.png", PICTURE), (tmp_path / "dir.png" / ".." / "a.png", PICTURE))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused("may not be written to", (tmp_path / "a.png", PICTURE))


def test_a_runs_own_files_stay(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (run, elsewhere):
        folder.mkdir()
        picture = Image.new("RGB", (8, 8))
        picture.save(folder / "7.png")
        (folder / "broken.png").write_bytes(b"\x89PNG")
        (folder / "a.md").write_text("mine", "utf-8")
        text = PngInfo()
        text.add_text("Software", MADE_BY)
        picture.save(folder / "figure.png", pnginfo=text)
        (folder / "table.md").write_text("### GenEval\n", "utf-8")
    for name, endings in (("7.png", PICTURE), ("broken.png", PICTURE), ("a.md", TEXT)):
        refused("a file of the run itself", (run / name, endings), runs=[elsewhere / ".." / "run"])
        check_targets([(elsewhere / name, endings)], [run])
    check_targets([(run / "figure.png", PICTURE), (run / "table.md", TEXT)], [run])
