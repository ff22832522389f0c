from __future__ import annotations

import json

import pytest
from PIL import Image

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.benches.kris import BENCH, read

ONE = {"ori_img": "1.jpg", "gt_img": "", "ins_en": "Let it grow.", "explain_en": ""}
TWO = {"ori_img": ["1-1.png", "1-2.png"], "ins_en": "Put the first into the second."}


def listed(tmp_path, *rows, images=None) -> Files:
    file = tmp_path / "final_data.json"
    file.write_text(json.dumps(list(rows)), "utf-8")
    return Files(file, tmp_path / "out", images)


def row(kind="biology", key="1", **change) -> dict:
    return {"id": key, "type": kind, **ONE, **change}


def folders(tmp_path, **types) -> Files:
    for kind, content in types.items():
        (tmp_path / "KRIS_Bench" / kind).mkdir(parents=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "KRIS_Bench" / kind / "annotation.json").write_text(text, "utf-8")
    return Files(tmp_path / "KRIS_Bench", tmp_path / "out")


def test_one_id_in_two_types_is_two_items(tmp_path):
    reading = read(listed(tmp_path, row(), row("multi-element_composition", **TWO)), 1)
    assert reading.unusable == ()
    assert [item.id for item in reading.items] == ["biology/1", "multi-element_composition/1"]
    assert [str(item.files[0][0]) for item in reading.items] == ["biology/1.png", "multi-element_composition/1.png"]
    assert [item.group for item in reading.items] == ["biology", "multi-element_composition"]
    assert reading.items[0].turns == ("Let it grow.",)
    assert [source.name for source in reading.items[1].sources] == ["1-1.png", "1-2.png"]
    assert (BENCH.editing, BENCH.samples, BENCH.score) == (True, 1, None)


def test_the_bench_own_folder_gives_the_same_items_as_the_list(tmp_path):
    types = {"biology": {"1": ONE, "2": ONE}, "composition": {"1": TWO}}
    from_folder = read(folders(tmp_path, **types), 1)
    rows = [row(kind, key, **edit) for kind, edits in types.items() for key, edit in edits.items()]
    from_list = read(listed(tmp_path, *rows, images=tmp_path / "KRIS_Bench"), 1)
    assert from_folder.unusable == from_list.unusable == ()
    assert [(item.id, item.turns, item.files) for item in from_folder.items] == [
        (item.id, item.turns, item.files) for item in from_list.items
    ]
    for item in (from_folder.items[2], from_list.items[2]):
        with pytest.raises(ValueError, match="there is no image file"):
            item.sources[1].open()
    Image.new("RGB", (3, 2)).save(tmp_path / "KRIS_Bench" / "composition" / "1-2.png")
    assert from_folder.items[2].sources[1].open().size == from_list.items[2].sources[1].open().size == (3, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": "../1"}, "cannot become the name of a file"),
        ({"key": "con"}, "cannot become the name of a file"),
        ({"key": None}, "neither text nor a whole number"),
        ({"kind": ".."}, "cannot become the name of a file"),
        ({"kind": "C:"}, "cannot become the name of a file"),
        ({"ori_img": "../physics/1.jpg"}, "does not stay below"),
        ({"ori_img": ["1.jpg", "/1.jpg"]}, "does not stay below"),
        ({"ori_img": []}, "names no pictures"),
        ({"ori_img": {"1": "1.jpg"}}, "names no pictures"),
        ({"ori_img": [3]}, "is no name of a file"),
        ({"ins_en": ""}, "'ins_en' is no text"),
        ({"key": "first"}, "stands there already"),
        ({"key": "FIRST"}, "stands there already"),
    ],
)
def test_a_row_that_cannot_be_used_is_said_and_the_rest_goes_on(tmp_path, change, says):
    reading = read(listed(tmp_path, row(key="first"), row(**change), row(key="last")), 1)
    assert [item.id for item in reading.items] == ["biology/first", "biology/last"]
    (sentence,) = reading.unusable
    assert sentence.startswith("final_data.json, row 2")
    assert says in sentence


def test_a_damaged_file_of_one_type_leaves_the_others(tmp_path):
    twice = '{"1": {"ori_img": "1.jpg", "ins_en": "One."}, "1": {"ori_img": "1.jpg", "ins_en": "Two."}}'
    reading = read(
        folders(tmp_path, biology="{", geography={"1": ONE, "2": "no edit"}, medicine="[]", physics=twice), 1
    )
    assert [(item.id, item.turns[0]) for item in reading.items] == [
        ("geography/1", "Let it grow."),
        ("physics/1", "One."),
    ]
    said = sorted(reading.unusable)
    assert len(said) == 4
    assert any("biology" in sentence and "no readable JSON" in sentence for sentence in said)
    assert any("medicine" in sentence and "no object" in sentence for sentence in said)
    assert any(sentence.startswith("geography/annotation.json, id '2'") for sentence in said)
    assert any(sentence.startswith("physics/annotation.json") and "twice" in sentence for sentence in said)


def test_what_is_none_of_the_bench(tmp_path):
    (tmp_path / "annotation.json").write_text(json.dumps({"1": ONE}), "utf-8")
    with pytest.raises(ValueError, match="name the bench's folder"):
        read(Files(tmp_path / "annotation.json", tmp_path), 1)
    with pytest.raises(ValueError, match="no row that KRIS-Bench can use"):
        read(listed(tmp_path, {"index": "1", "instruction": "Draw."}), 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"can use: expected is .*final_data\.json.*<type>/annotation\.json"):
        read(Files(tmp_path / "empty", tmp_path), 1)
    with pytest.raises(ValueError, match="one picture"):
        read(listed(tmp_path, row()), 4)


def test_a_key_that_stands_twice_in_a_row_of_the_list_is_said(tmp_path):
    files = listed(tmp_path, row())
    files.prompts.write_text(files.prompts.read_text("utf-8").replace('"id"', '"id": "0", "id"'), "utf-8")
    reading = read(files, 1)
    assert [item.id for item in reading.items] == ["biology/0"]
    assert "'id' stands twice" in reading.unusable[0]
