"""A file is whole or not there."""

from __future__ import annotations

import errno
import os

import pytest

from lightbagel_core.evaluation.writing import write_whole


def test_it_writes_into_folders_that_are_not_there_yet(tmp_path):
    write_whole(tmp_path / "a" / "b.txt", b"whole", tmp_path / "scratch")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"whole"
    assert os.listdir(tmp_path / "scratch") == []
    write_whole(tmp_path / "a" / "b.txt", b"new", tmp_path / "scratch")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"new"


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "b.txt").write_bytes(b"old")
    with pytest.raises(ValueError, match=r"could not write .*b\.txt: No space left on device"):
        write_whole(tmp_path / "b.txt", b"new", tmp_path / "scratch")
    assert (tmp_path / "b.txt").read_bytes() == b"old"
    assert os.listdir(tmp_path / "scratch") == []
