"""Which layout a source has, and what is said of one that has none."""

from __future__ import annotations

import pytest
from written import file, pictures

from lightbagel_core.training.prepare.layouts import LAYOUTS, find


def test_the_table_has_each_layout_under_its_name():
    assert list(LAYOUTS) == [
        "musubi-tuner",
        "omniedit",
        "instruct-pix2pix",
        "uniworld",
        "imgedit",
        "nano-consistent-150k",
        "sharegpt-4o-image",
        "gpt-image-edit",
        "blip3o",
        "ai-toolkit",
        "folder",
    ]
    assert all(layout.name == name for name, layout in LAYOUTS.items())


def test_a_name_is_taken_as_it_is_asked_for(tmp_path):
    pictures(tmp_path, "a.png")
    file(tmp_path / "a.txt", "a cat")
    assert find(tmp_path).name == "folder"
    assert find(tmp_path, "omniedit").name == "omniedit"


@pytest.mark.parametrize(
    ("name", "why"), [("webdataset", "there is no layout 'webdataset'"), (None, "is laid out as nothing")]
)
def test_what_is_not_found_lists_all_layouts_with_what_they_need(tmp_path, name, why):
    pictures(tmp_path, "a.png")
    with pytest.raises(ValueError, match=why) as told:
        find(tmp_path, name)
    for layout in LAYOUTS.values():
        assert f"{layout.name}: {layout.needs}" in str(told.value)


def test_a_source_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match="there is no file or folder"):
        find(tmp_path / "gone")


def test_odd_sources_are_no_crash(tmp_path):
    for name, content in {
        "a.json": "{",
        "a.parquet": "x",
        "a.tar": "x",
        "a.toml": "[",
        "a.txt": "x,y,z",
        "a": "",
    }.items():
        with pytest.raises(ValueError, match="is laid out as nothing"):
            find(file(tmp_path / name, content))
    with pytest.raises(ValueError, match="is laid out as nothing"):
        find(tmp_path)
