"""Folders of pictures and texts, with sources/ and with counts in their names."""

from __future__ import annotations

import pytest
from written import file, pictures, read, told

from lightbagel_core.training.data.folder_set import FolderSet
from lightbagel_core.training.prepare.layouts import folder


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "set"
    for name in ("cat", "hat", "two"):
        pictures(root, f"{name}.jpg")
        file(root / f"{name}.txt", f"{name}\n")
    pictures(root / "sources", "hat.png", "two_1.png", "two_0.webp")
    return root


def test_the_rows_are_what_training_reads_of_the_folder(source):
    rows, left_out = read(source, expect="folder")
    assert left_out == {}
    assert [told(row) for row in rows] == [
        ([], ("cat",), [b"cat.jpg"]),
        ([b"hat.png"], ("hat",), [b"hat.jpg"]),
        ([b"two_0.webp", b"two_1.png"], ("two",), [b"two.jpg"]),
    ]
    told_by_training: list[str] = []
    opened = FolderSet.__new__(FolderSet)
    opened.folder = source
    opened.targets = [row.targets[0].file for row in rows]
    assert [list(one) for one in opened._sources(told_by_training)] == [
        [one.file for one in row.sources] for row in rows
    ]


def test_a_folders_name_says_how_often_it_counts(source):
    for name in ("10_sks dog", "2024_holidays", "5_a/deep", "0_off", "7_", "plain"):
        pictures(source / name, "x.png")
        file(source / name / "x.txt", name)
    pictures(source / "10_sks dog" / "sources", "x.png")
    rows, left_out = read(source, expect="folder")
    assert {row.texts[0]: row.repeats for row in rows} == {
        "cat": 1, "hat": 1, "two": 1, "10_sks dog": 10, "2024_holidays": 1, "5_a/deep": 5, "7_": 1, "plain": 1
    }  # fmt: skip
    assert [row.key for row in rows if row.sources] == ["hat.jpg", "two.jpg", "10_sks dog/x.png"]
    assert left_out == {"0_off": "its pictures count 0 times, as its name says"}


def test_the_source_itself_may_have_a_count(source):
    renamed = source.rename(source.parent / "3_set")
    assert {row.repeats for row in read(renamed)[0]} == {3}
    assert {row.repeats for row in read(renamed / ".." / "3_set")[0]} == {3}


def test_a_folder_without_texts_is_none(tmp_path):
    pictures(tmp_path, "a.png")
    assert not folder.LAYOUT.fits(tmp_path)
    with pytest.raises(ValueError, match=r"is not laid out as folder: it needs pictures with a \.txt of the same name"):
        folder.LAYOUT.units(tmp_path)
    assert not folder.LAYOUT.fits(tmp_path / "a.png")


def test_links_between_folders_make_no_circle(source):
    (source / "again").symlink_to(source)
    assert len(read(source)[0]) == 3
