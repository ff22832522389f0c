"""Whether files are still those that they were."""

from __future__ import annotations

import os
import shutil

import pytest

from lightbagel_core.training.prepare.stamps import stamp


def test_a_file_that_changes_comes_or_goes_makes_another_stamp(tmp_path):
    folder = tmp_path / "a"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "x.txt").write_text("x", "utf-8")
    before = stamp([folder])
    (folder / ".sizes.json").write_text("training's own", "utf-8")
    assert stamp([folder]) == before
    moved = shutil.copytree(folder, tmp_path / "b")
    assert stamp([moved]) == before
    assert stamp([folder, moved]) != before
    os.utime(folder / "below" / "x.txt", ns=(5, 5))
    later = stamp([folder])
    (folder / "y.txt").touch()
    assert len({before, later, stamp([folder]), stamp([folder / "y.txt"])}) == 4


def test_what_cannot_be_listed_is_said(tmp_path):
    with pytest.raises(ValueError, match="nowhere cannot be read: No such file"):
        stamp([tmp_path / "nowhere"])
