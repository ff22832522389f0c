"""UniWorld's conversations, and the file that names several of their lists."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from written import PICTURE, file, parquet, pictures, read, stored, told

from lightbagel_core.training.prepare.layouts import find


def said(*parts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[at % 2], "value": value} for at, value in enumerate(parts)]


GOOD = [
    {"conversations": said("<image>\nAdd a hat.", "<gen_image>"), "image": ["in/1.png", "out/1.png"], "task": "add"},
    {"conversations": said("<image><image> Join them.", "<image>"), "image": ["in/1.png", "in/2.png", "out/1.png"]},
    {"conversations": said("Draw a cat.", "<gen_image>"), "image": "out/1.png"},
    {
        "conversations": [
            {"from": "system", "value": "Be nice."},
            *said("<image> Add a hat.", "<gen_image>", "Make it red.", "<gen_image>"),
        ],
        "image": ["in/1.png", "out/1.png", "out/2.png"],
    },
]
TOLD = [
    ([b"1.png"], ("Add a hat.",), [b"1.png"]),
    ([b"1.png", b"2.png"], ("Join them.",), [b"1.png"]),
    ([], ("Draw a cat.",), [b"1.png"]),
    ([b"1.png"], ("Add a hat.", "Make it red."), [b"1.png", b"2.png"]),
]
BAD = [
    ({"conversations": said("<image> What is it?", "A cat."), "image": "in/1.png"}, "its answer is in words"),
    (GOOD[0] | {"image": ["in/1.png"]}, "it has 1 pictures, and its conversation speaks of 2"),
    (GOOD[0] | {"conversations": said("<image> Add a hat.")}, "has 1 parts"),
    (GOOD[0] | {"conversations": said("<image>", "<gen_image>")}, "the question is empty"),
    (GOOD[0] | {"conversations": "{"}, "conversations is no JSON"),
    (GOOD[0] | {"conversations": [1]}, "conversations is no list of objects"),
    (GOOD[0] | {"conversations": None}, "conversations is no list of objects but null"),
    (GOOD[0] | {"conversations": [{}, {}]}, "the question is missing"),
    (GOOD[0] | {"conversations": said("<image> a", "<image>", "<image> b", "<image>")}, "turn 2 brings a picture"),
    (GOOD[0] | {"image": ["in/1.png", "out/9.png"]}, "there is no file"),
]


@pytest.fixture
def source(tmp_path):
    pictures(tmp_path / "in", "1.png", "2.png")
    pictures(tmp_path / "out", "1.png", "2.png")
    return tmp_path


def test_pictures_come_where_the_conversation_marks_them(source):
    file(source / "all.json", json.dumps(GOOD + [record for record, _ in BAD]))
    rows, left_out = read(source, expect="uniworld")
    assert [told(row) for row in rows] == TOLD
    assert rows[0].kind == "add"
    assert len(left_out) == len(BAD)
    for (_, part), why in zip(BAD, left_out.values(), strict=True):
        assert part in why


def test_parquet_with_conversations_as_json(source):
    columns = {
        "conversations": pa.array([json.dumps(said("<image>Add a hat.", "<image>"))]),
        "input_images": pa.array([[{"bytes": b"in"}]], pa.list_(PICTURE)),
        "output_image": stored(b"out"),
    }
    rows, _ = read(parquet(source / "a.parquet", columns), expect="uniworld")
    assert [told(row) for row in rows] == [([b"in"], ("Add a hat.",), [b"out"])]


def test_a_data_txt_names_folders_and_lists(source, tmp_path):
    file(tmp_path / "json" / "one.json", json.dumps([GOOD[0], GOOD[0] | {"image": ["../1.png", "out/1.png"]}]))
    file(tmp_path / "json" / "two.json", json.dumps([{**GOOD[0], "image": ["1.png", "2.png"]}])[:-1])
    file(tmp_path / "json" / "none.json", "[]")
    listed = ".,json/one.json,false\n\nin , json/two.json, true\nin,json/gone.json,false\n.,json/none.json,false\n"
    rows, left_out = read(file(tmp_path / "data.txt", listed), expect="uniworld")
    assert [told(row) for row in rows] == [
        ([b"1.png"], ("Add a hat.",), [b"1.png"]),
        ([b"1.png"], ("Add a hat.",), [b"2.png"]),
    ]
    assert list(left_out) == ["json/one.json, row 1", "json/two.json", "json/gone.json", "json/none.json"]
    assert "leads out of" in left_out["json/one.json, row 1"]
    assert "breaks off" in left_out["json/two.json"]


@pytest.mark.parametrize(
    ("text", "why"),
    [("a,b\n", "is not `folder"), ("", "is empty"), (b"\xff", "as text"), (".,x.json,false", "nothing of")],
)
def test_a_data_txt_that_says_nothing_useful_is_refused(tmp_path, text, why):
    with pytest.raises(ValueError, match=why):
        find(file(tmp_path / "data.txt", text), "uniworld").units(tmp_path / "data.txt")
