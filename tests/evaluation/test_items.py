"""Ids and paths of a prompt file become names of files here, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lightbagel_core.evaluation.items import Source, inside, safe_name

BAD = ("..", ".", "", "../up", "a/b", "a\\b", "/etc/passwd", "C:", "C:\\x", "nul", "CON.png", "a\nb", "a ", "a.", "x*y")


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_plain_name_is_refused(name):
    with pytest.raises(ValueError, match=r"row 3: the id .* cannot become the name of a file"):
        safe_name(name, "row 3")


@pytest.mark.parametrize("thing", [None, 1.5, True, ["a"], {}])
def test_what_is_neither_text_nor_a_number_is_refused(thing):
    with pytest.raises(ValueError, match="neither text nor a whole number"):
        safe_name(thing, "row 3")


def test_plain_names_stay():
    assert [safe_name(name, "") for name in ("a b", "猫", 7, "1082")] == ["a b", "猫", "7", "1082"]


@pytest.mark.parametrize(
    "path", ["../a.png", "a/../../b.png", "/a.png", "C:/a.png", "\\\\host\\a.png", "a/nul/b", "", 3]
)
def test_a_path_stays_below_its_folder(path):
    with pytest.raises(ValueError, match=r"row 3: "):
        inside(Path("/bench"), path, "row 3")


def test_a_path_with_folders_is_found():
    assert inside(Path("/bench"), "daily object/3.jpg", "") == Path("/bench/daily object/3.jpg")
    assert inside(Path("/bench"), "a\\b.png", "") == Path("/bench/a/b.png")


def test_a_source_is_read_when_it_is_opened(tmp_path):
    source = Source.of_file(tmp_path / "later.png")
    with pytest.raises(ValueError, match=r"there is no image file .*later\.png"):
        source.open()
    Image.new("RGB", (2, 3), "red").save(tmp_path / "later.png")
    assert source.open().size == (2, 3)
    assert source.name == "later.png"


def test_a_name_is_no_longer_than_file_systems_take():
    assert safe_name("猫" * 66, "") == "猫" * 66
    for name in ("x" * 300, "猫" * 67):
        with pytest.raises(ValueError, match=r"row 3: the id .* is too long"):
            safe_name(name, "row 3")
        with pytest.raises(ValueError, match=r"row 3: .* is too long"):
            inside(Path("/bench"), f"a/{name}.png", "row 3")
