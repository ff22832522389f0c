"""Pictures, their texts and their sources by name; what has no partner."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import file, pictures

from lightbagel_core.training.prepare.layouts import folder_pairs
from lightbagel_core.training.prepare.layouts.folder_pairs import Folders, beside_control
from lightbagel_core.training.prepare.rows import LeftOut, Row


def rows(root: Path, folders: Folders) -> list[Row | LeftOut]:
    return [row for unit in folders.units() for row in folder_pairs.rows(root, unit)]


def test_sources_are_in_the_order_of_folders_and_numbers(tmp_path):
    pictures(tmp_path / "t", "a.png", "b_1.jpg", "c.webp")
    for name in ("a", "b_1", "c"):
        file(tmp_path / "t" / f"{name}.txt", name)
    pictures(tmp_path / "one", "a_10.png", "a_2.png", "b_1.png", "c.PNG")
    pictures(tmp_path / "two", "a.png", "b_1_0.png")
    found = rows(tmp_path, Folders(tmp_path / "t", (tmp_path / "one", tmp_path / "two"), repeats=3))
    assert [(row.key, [one.name for one in row.sources], row.texts, row.repeats) for row in found] == [
        ("t/a.png", ["one/a_2.png", "one/a_10.png", "two/a.png"], ("a",), 3),
        ("t/b_1.jpg", ["one/b_1.png", "two/b_1_0.png"], ("b_1",), 3),
        ("t/c.webp", ["one/c.PNG"], ("c",), 3),
    ]


def test_what_has_no_partner_is_said(tmp_path):
    pictures(tmp_path / "t", "a.png", "b.png", "b.webp", "c.gif", "d.png", ".hidden.png")
    for name in ("a", "b", "note", "d"):
        file(tmp_path / "t" / f"{name}.txt", name)
    file(tmp_path / "t" / "model.safetensors")
    (tmp_path / "t" / "folder.png").mkdir()
    pictures(tmp_path / "s", "a.png", "b.png", "x.png", "y_0.png")
    found = rows(tmp_path, Folders(tmp_path / "t", (tmp_path / "s",)))
    assert [row.key for row in found if isinstance(row, Row)] == ["t/a.png", "t/b.png"]
    assert {row.key: row.why for row in found if isinstance(row, LeftOut)} == {
        "s/x.png": "it has no target of its name",
        "s/y_0.png": "it has no target of its name",
        "t/b.webp": "b.png has the same name",
        "t/c.gif": "it is none of .png, .jpg, .jpeg, .webp; save it as PNG",
        "t/d.png": "it has no source of its name in s",
        "t/note.txt": "there is no picture of its name (.png, .jpg, .jpeg, .webp)",
    }
    alone = rows(tmp_path, Folders(tmp_path / "t", (tmp_path / "s",), alone=True))
    assert next(row for row in alone if row.key == "t/d.png") == Row(
        "t/d.png", (), ("d",), (next(row for row in alone if row.key == "t/d.png").targets[0],)
    )


def test_texts_that_are_none_are_left_out(tmp_path):
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    file(tmp_path / "a.txt", b"caf\xe9")
    file(tmp_path / "b.txt", " \n")
    file(tmp_path / "d.txt", "a dog")
    found = rows(tmp_path, Folders(tmp_path, alone=True))
    assert [getattr(row, "why", row.key).split(";")[0] for row in found] == [
        "a.txt is not UTF-8",
        "b.txt is empty",
        "there is no c.txt",
        "d.png",
    ]


def test_names_of_all_kinds(tmp_path):
    names = ("a b.png", "CON.png", "Ünï 图 🎩.png", "q.1.png", "-rf.png", "10%.png")
    pictures(tmp_path, *names)
    for name in names:
        file(tmp_path / name.replace(".png", ".txt"), name)
    assert sorted(row.texts[0] for row in rows(tmp_path, Folders(tmp_path, alone=True))) == sorted(names)


def test_many_files_are_in_several_units(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_pairs, "PIECE", 10)
    for n in range(25):
        file(tmp_path / f"{n:02}.png")
        file(tmp_path / f"{n:02}.txt", str(n))
    units = Folders(tmp_path, alone=True).units()
    assert [(unit.first, unit.last) for unit in units] == [(0, 10), (10, 20), (20, 25)]
    assert [row.texts for row in folder_pairs.rows(tmp_path, units[2])] == [(str(n),) for n in range(20, 25)]


def test_a_folder_that_changed_is_read_anew(tmp_path):
    pictures(tmp_path, "a.png")
    file(tmp_path / "a.txt", "a")
    assert len(rows(tmp_path, Folders(tmp_path, alone=True))) == 1
    pictures(tmp_path, "b.png")
    file(tmp_path / "b.txt", "b")
    assert len(rows(tmp_path, Folders(tmp_path, alone=True))) == 2


def test_where_targets_and_controls_lie(tmp_path):
    with pytest.raises(ValueError, match="has no folder control"):
        beside_control(tmp_path)
    for name in ("control_path_10", "Control_Images_2", "controls"):
        pictures(tmp_path / name, "a.png")
    with pytest.raises(ValueError, match="needs one folder with the targets"):
        beside_control(tmp_path)
    pictures(tmp_path / "targets", "a.png")
    folders, left_out = beside_control(tmp_path)
    assert folders.targets == tmp_path / "targets"
    assert [one.name for one in folders.sources] == ["controls", "Control_Images_2", "control_path_10"]
    pictures(tmp_path / "more", "a.png")
    with pytest.raises(ValueError, match="but more, targets"):
        beside_control(tmp_path)
    pictures(tmp_path, "a.png")
    folders, left_out = beside_control(tmp_path)
    assert folders.targets == tmp_path
    assert [unit.where.name for unit in left_out] == ["more", "targets"]
