"""ai-toolkit: targets and control folders."""

from __future__ import annotations

from written import file, pictures, read, told


def test_targets_with_one_control_folder(tmp_path):
    pictures(tmp_path, "a.png", "b.jpg", "c.png")
    for name in "abc":
        file(tmp_path / f"{name}.txt", f"edit {name}")
    pictures(tmp_path / "control", "a.jpg", "b.jpg", "d.jpg")
    rows, left_out = read(tmp_path, expect="ai-toolkit")
    assert [told(row) for row in rows] == [
        ([b"a.jpg"], ("edit a",), [b"a.png"]),
        ([b"b.jpg"], ("edit b",), [b"b.jpg"]),
    ]
    assert left_out == {
        "c.png": "it has no source of its name in control",
        "control/d.jpg": "it has no target of its name",
    }


def test_several_control_folders_are_several_sources(tmp_path):
    pictures(tmp_path / "targets", "a.png", "b.png")
    file(tmp_path / "targets" / "a.txt", "put them together")
    file(tmp_path / "targets" / "b.txt", "redraw it")
    pictures(tmp_path / "control_path_1", "a.png", "b.png")
    file(tmp_path / "control_path_2" / "a.jpg")
    rows, left_out = read(tmp_path, expect="ai-toolkit")
    assert [[one.name for one in row.sources] for row in rows] == [
        ["control_path_1/a.png", "control_path_2/a.jpg"],
        ["control_path_1/b.png"],
    ]
    assert left_out == {}


def test_another_folder_with_pictures_is_not_silently_left(tmp_path):
    pictures(tmp_path, "a.png")
    file(tmp_path / "a.txt", "edit it")
    pictures(tmp_path / "control", "a.png")
    pictures(tmp_path / "masks", "a.png")
    rows, left_out = read(tmp_path, "ai-toolkit")
    assert len(rows) == 1
    assert left_out == {"masks": "it is no control folder, and the targets lie above it"}
