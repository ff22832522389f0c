"""A file is whole or not there."""

from __future__ import annotations

import errno
import os

import pytest

from lightbagel_core.files.writing import write_beside, write_whole


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


def test_a_file_that_a_user_named_is_written_beside_itself(tmp_path):
    (tmp_path / "table.md").write_bytes(b"old")
    write_beside(tmp_path / "table.md", b"new")
    assert (tmp_path / "table.md").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["table.md"]


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*reports; make it first"):
        write_beside(tmp_path / "reports" / "table.md", b"new")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="there is no folder"):
        write_beside(tmp_path / "file" / "table.md", b"new")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_may_not_be_written_is_a_sentence(tmp_path, monkeypatch):
    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "table.md").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", forbidden)
    with pytest.raises(ValueError, match=r"could not write .*table\.md: Permission denied"):
        write_beside(tmp_path / "table.md", b"new")
    with pytest.raises(ValueError, match="could not write"):
        write_beside(tmp_path, b"new")
    assert (tmp_path / "table.md").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["table.md"]
