"""Pictures to PNG files: whole or not at all."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from lightbagel_core.cli.png import write_pngs


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
