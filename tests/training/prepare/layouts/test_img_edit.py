"""ImgEdit: single edits and chains of them."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from written import PICTURE, file, lines, parquet, pictures, read, told


@pytest.fixture
def source(tmp_path):
    pictures(tmp_path / "results", "0.png", "1.png", "2.png", "3.png")
    return tmp_path


def turn(begin, prompt, end, **more):
    return {
        "input_images": [f"results/{n}.png" for n in begin],
        "prompt": prompt,
        "output_images": [f"results/{end}.png"],
    } | more


def test_single_edits_in_json(source):
    lines(
        source / "a.jsonl", turn([0], "add a hat", 1, edit_type="add"), turn([0, 1], "join them", 2), turn([0], "", 1)
    )
    rows, left_out = read(source, expect="imgedit")
    assert [told(row) for row in rows] == [
        ([b"0.png"], ("add a hat",), [b"1.png"]),
        ([b"0.png", b"1.png"], ("join them",), [b"2.png"]),
    ]
    assert [row.kind for row in rows] == ["add", ""]
    assert left_out == {"a.jsonl, row 2": "prompt is empty"}


def test_turns_become_a_chain(source):
    chain = [turn([0], "add a hat", 1), turn([1], "make it red", 2), turn([], "remove it", 3)]
    back = [turn([0], "add a hat", 1), turn([0], "now a dog", 2)]
    two = [turn([0], "add a hat", 1), turn([1, 0], "join them", 2)]
    broken = [turn([0], "add a hat", 1), turn([1], "make it red", 9)]
    file(source / "a.json", json.dumps([chain, back, two, broken, [], ["x"], [turn([0], "one", 1)]]))
    rows, left_out = read(source, expect="imgedit")
    assert [told(row) for row in rows] == [
        ([b"0.png"], ("add a hat", "make it red", "remove it"), [b"1.png", b"2.png", b"3.png"]),
        ([b"0.png"], ("one",), [b"1.png"]),
    ]
    said = ["turn 2 does not begin with the picture that turn 1 made"] * 2 + ["there is no file", "no list of turns"]
    said += ["a turn is no object but a text"]
    assert all(part in why for part, why in zip(said, left_out.values(), strict=True)), left_out


def test_parquet_with_pictures_in_lists(source):
    stored = [[{"bytes": b"in", "path": None}], [{"bytes": None, "path": "results/0.png"}], [], None]
    columns = {
        "input_images": pa.array(stored, pa.list_(PICTURE)),
        "prompt": pa.array([["a", "b"], ["c"], ["d"], ["e"]]),
        "output_images": pa.array(
            [[{"bytes": b"1"}, {"bytes": b"2"}], [{"bytes": b"3"}], [{"bytes": b"4"}], []], pa.list_(PICTURE)
        ),
    }
    rows, left_out = read(parquet(source / "a.parquet", columns), expect="imgedit")
    assert [told(row) for row in rows] == [
        ([b"in"], ("a", "b"), [b"1", b"2"]),
        ([b"0.png"], ("c",), [b"3"]),
        ([], ("d",), [b"4"]),
    ]
    assert left_out == {"a.parquet, row 3": "it has 0 output pictures for 1 prompts"}
