"""Prompt files as people damage them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from lightbagel_core.evaluation.items import Item
from lightbagel_core.evaluation.prompt_file import collect, one_sample, read_json, text


def written(tmp_path, content: str | bytes):
    file = tmp_path / "prompts.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_a_key_that_stands_twice_is_named_and_its_first_value_used(tmp_path):
    data, repeated = read_json(written(tmp_path, '{"a": {"p": 1, "p": 2}, "b": 3, "a": 4}'))
    assert data == {"a": {"p": 1}, "b": 3}
    assert [sentence.split("'")[1] for sentence in repeated] == ["p", "a"]


def test_a_byte_order_mark_does_no_harm(tmp_path):
    assert read_json(written(tmp_path, '\ufeff{"a": 1}')) == ({"a": 1}, [])


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"a": 1} 2'])
def test_what_is_no_json_is_refused_in_a_sentence(tmp_path, content):
    with pytest.raises(ValueError, match=r"prompts\.json is no readable JSON"):
        read_json(written(tmp_path, content))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ValueError, match="is a folder; name the file"):
        read_json(tmp_path)
    with pytest.raises(ValueError, match="is empty"):
        read_json(written(tmp_path, b" \n"))
    with pytest.raises(ValueError, match="cannot be read as text"):
        read_json(written(tmp_path, b"\xff\xfe"))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (["p"], "is no object"),
        ({}, "has no 'p'"),
        ({"p": None}, "is no text"),
        ({"p": 3}, "is no text"),
        ({"p": " \n"}, "is no text"),
        ({"p": "\ud83d"}, "half a character"),
    ],
)
def test_what_is_no_text(row, says):
    with pytest.raises(ValueError, match=f"^row 3.*{says}"):
        text(row, "p", "row 3")


def test_usable_rows_are_kept_and_the_others_named(tmp_path):
    def make(row, where):
        if row is None:
            raise ValueError(f"{where} is nothing")
        return Item(row, "g", ("draw",), ((PurePosixPath(f"{row}.png"),),))

    rows = [("row 0", "a"), ("row 1", None), ("row 2", "A"), ("row 3", "b")]
    reading = collect("X", tmp_path, rows, make, ["known"])
    assert [item.id for item in reading.items] == ["a", "b"]
    assert reading.unusable == (
        "known",
        "row 1 is nothing",
        "row 2: the id 'A' stands there already; the first is used",
    )
    with pytest.raises(ValueError, match="no row that X can use: row 1 is nothing"):
        collect("X", tmp_path, rows[1:2], make)
    with pytest.raises(ValueError, match=r"no row that X can use: it holds none at all$"):
        collect("X", tmp_path, [], make)
    with pytest.raises(ValueError, match=r"no row that X can use: expected is Y$"):
        collect("X", tmp_path, [], make, none="expected is Y")


@pytest.mark.parametrize("where", ["p.json, row 1", "{file}, row 1", "p.json: row 1", "{file}: row 1", "p.json/row 1"])
def test_a_file_is_named_once(tmp_path, where):
    def make(row, where):
        raise ValueError(f"{where} is nothing")

    file = tmp_path / "p.json"
    with pytest.raises(ValueError, match="can use") as caught:
        collect("X", file, [(where.format(file=file), None)], make)
    assert str(caught.value) == f"{file} has no row that X can use: row 1 is nothing"
    for whole in (f"there is no file {file}", f"{file} is empty"):
        with pytest.raises(ValueError, match=f"^{re.escape(whole)}$"):
            collect("X", file, [], make, [whole])


@pytest.mark.parametrize("name", ["i", "it", "has"])
def test_a_short_name_is_no_part_of_a_reason(name):
    with pytest.raises(ValueError, match=f"^{name} has no row that X can use: it has no rows$"):
        collect("X", Path(name), [], Item, none="it has no rows")


def test_a_layout_with_room_for_one_picture():
    one_sample("X", 1)
    with pytest.raises(ValueError, match="not 4"):
        one_sample("X", 4)
