"""musubi-tuner: folders, JSON lines, and the TOML that names them."""

from __future__ import annotations

import pytest
from written import file, lines, pictures, read, told

from lightbagel_core.training.prepare.layouts import find


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "set"
    pictures(root / "images", "a.png", "b.png", "c d.png")
    for name in ("a", "b", "c d"):
        file(root / "images" / f"{name}.txt", f"edit {name}")
        file(root / "images" / f"{name}.caption", f"other {name}")
    pictures(root / "control", "a_0.png", "a_1.png", "b.png")
    return root


def test_folders_with_numbered_controls(source):
    rows, left_out = read(source, "musubi-tuner")
    assert [told(row) for row in rows] == [
        ([b"a_0.png", b"a_1.png"], ("edit a",), [b"a.png"]),
        ([b"b.png"], ("edit b",), [b"b.png"]),
    ]
    assert left_out == {"images/c d.png": "it has no source of its name in control"}


def test_json_lines_are_relative_to_their_own_folder(source):
    records = [
        {"image_path": "../images/a.png", "control_path": "../control/b.png", "caption": "one"},
        {"image_path": "../images/a.png", "control_path_1": "../control/b.png", "control_path_0": "../control/a_0.png"}
        | {"control_path_10": "../control/a_1.png", "control_path_2": "../control/a_0.png", "caption": "four"},
        {"image_path": str(source / "images" / "c d.png"), "caption": "none", "control_path": None},
        {"image_path": "/etc/hostname", "caption": "out"},
        {"image_path": "../../../etc/hostname", "caption": "out"},
        {"image_path": "../images/a.png", "control_path": "http://x.org/a.png", "caption": "fetched"},
        {"image_path": "../images/a.png", "control_path": "../control/none.png", "caption": "missing"},
    ]
    lines(source / "meta" / "all.jsonl", *records)
    rows, left_out = read(source, expect="musubi-tuner")
    assert [told(row) for row in rows] == [
        ([b"b.png"], ("one",), [b"a.png"]),
        ([b"a_0.png", b"b.png", b"a_0.png", b"a_1.png"], ("four",), [b"a.png"]),
        ([], ("none",), [b"c d.png"]),
    ]
    said = ["leads out of", "leads out of", "is an address; nothing is fetched", "there is no file"]
    assert all(part in why for part, why in zip(said, left_out.values(), strict=True)), left_out


TOML = """
[general]
resolution = [960, 544]
caption_extension = ".caption"
num_repeats = 2
[[datasets]]
image_directory = "images"
control_directory = "control"
cache_directory = "cache"
[[datasets]]
image_directory = "images"
caption_extension = ".txt"
num_repeats = 1
[[datasets]]
image_jsonl_file = "all.jsonl"
[[datasets]]
video_directory = "videos"
[[datasets]]
image_directory = "gone"
[[datasets]]
image_jsonl_file = "gone.jsonl"
[[datasets]]
image_directory = "images"
multiple_target = true
"""


def test_a_toml_names_folders_and_lines(source):
    lines(source / "all.jsonl", {"image_path": "images/b.png", "caption": "of a line"}, {"caption": "x"})
    config = file(source / "dataset.toml", TOML)
    layout = find(config)
    assert layout.name == "musubi-tuner"
    rows = [row for unit in layout.units(config) for row in layout.rows(config, unit)]
    assert [(row.texts, len(row.sources), row.repeats) for row in rows if hasattr(row, "texts")] == [
        (("other a",), 2, 2),
        (("other b",), 1, 2),
        (("edit a",), 0, 1),
        (("edit b",), 0, 1),
        (("edit c d",), 0, 1),
        (("of a line",), 0, 2),
    ]
    said = [(row.key, row.why) for row in rows if hasattr(row, "why")]
    assert [key for key, _ in said] == ["images/c d.png", "all.jsonl, row 1"] + ["dataset.toml"] * 4
    for (_, why), part in zip(said[2:], ("of videos", "no folder", "there is no", "several targets"), strict=True):
        assert part in why


def test_a_toml_may_name_folders_elsewhere(source, tmp_path):
    text = f"[[datasets]]\nimage_directory = '{source / 'images'}'\ncontrol_directory = '{source / 'control'}'\n"
    rows, _ = read(file(tmp_path / "configs" / "mine.toml", text), expect="musubi-tuner")
    assert [row.key for row in rows] == [f"{source.as_posix()}/images/{name}.png" for name in "ab"]


def test_lines_that_a_toml_names_lead_nowhere_else(source, tmp_path):
    lines(source / "meta" / "all.jsonl", {"image_path": "../images/a.png", "caption": "x"})
    config = file(tmp_path / "mine.toml", f"[[datasets]]\nimage_jsonl_file = '{source / 'meta' / 'all.jsonl'}'\n")
    rows, left_out = read(config)
    assert rows == []
    assert "leads out of" in next(iter(left_out.values()))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[datasets", "cannot be read as TOML"),
        ("datasets = 3", r"has no \[\[datasets\]\]"),
        ("[[datasets]]\nimage_directory = 3", "has neither image_directory nor image_jsonl_file"),
        ("[[datasets]]\nimage_directory = 'x'\nnum_repeats = 0", "num_repeats is 0, and must be 1 or more"),
        ("[[datasets]]\nimage_directory = 'x'", "nothing of .* can be read: there is no folder"),
    ],
)
def test_a_toml_that_says_nothing_useful_is_refused(tmp_path, text, why):
    with pytest.raises(ValueError, match=why):
        find(file(tmp_path / "a.toml", text), "musubi-tuner").units(tmp_path / "a.toml")
