from __future__ import annotations

import json

import pytest
from PIL import Image

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.benches.rise import BENCH, read

ROW = {
    "index": "temporal_reasoning_1",
    "category": "temporal_reasoning",
    "instruction": "Draw it ten years later.",
    "image": "temporal_reasoning_images/1.png",
    "reference": "An old tree.",
}


def written(tmp_path, *rows, images=None) -> Files:
    file = tmp_path / "data_total.json"
    file.write_text(json.dumps(rows[0] if rows and not isinstance(rows[0], dict) else list(rows)), "utf-8")
    return Files(file, tmp_path / "out", images)


def test_an_item_in_the_layout_of_the_official_scorer(tmp_path):
    reading = read(written(tmp_path, ROW, {**ROW, "index": 7, "category": "logical_reasoning"}), 1)
    assert reading.unusable == ()
    first, second = reading.items
    assert (first.id, first.group, first.turns) == (ROW["index"], ROW["category"], (ROW["instruction"],))
    assert str(first.files[0][0]) == "images/temporal_reasoning/temporal_reasoning_1.png"
    assert str(second.files[0][0]) == "images/logical_reasoning/7.png"
    assert (BENCH.editing, BENCH.samples, BENCH.score) == (True, 1, None)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_source_lies_beside_the_file_or_where_it_is_said(tmp_path, elsewhere):
    root = tmp_path / "sources" if elsewhere else tmp_path
    (source,) = read(written(tmp_path, ROW, images=root if elsewhere else None), 1).items[0].sources
    with pytest.raises(ValueError, match="there is no image file"):
        source.open()
    (root / "temporal_reasoning_images").mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(root / "temporal_reasoning_images" / "1.png")
    assert source.open().size == (3, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"index": "../1"}, "cannot become the name of a file"),
        ({"index": ".."}, "cannot become the name of a file"),
        ({"index": "C:1"}, "cannot become the name of a file"),
        ({"index": "NUL"}, "cannot become the name of a file"),
        ({"index": None}, "neither text nor a whole number"),
        ({"index": 1.5}, "neither text nor a whole number"),
        ({"category": "a/b"}, "cannot become the name of a file"),
        ({"category": ""}, "'category' is no text"),
        ({"image": "../1.png"}, "does not stay below"),
        ({"image": "/etc/passwd"}, "does not stay below"),
        ({"image": "C:\\1.png"}, "does not stay below"),
        ({"image": ["1.png"]}, "is no name of a file"),
        ({"image": None}, "is no name of a file"),
        ({"instruction": None}, "'instruction' is no text"),
        ({"index": "LAST"}, "stands there already"),
    ],
)
def test_a_row_that_cannot_be_used_is_said_and_the_rest_goes_on(tmp_path, change, says):
    rows = [{**ROW, "index": "last"}, {**ROW, **change}, {**ROW, "index": "other"}]
    reading = read(written(tmp_path, *rows), 1)
    assert [item.id for item in reading.items] == ["last", "other"]
    (sentence,) = reading.unusable
    assert sentence.startswith("data_total.json, row 2")
    assert says in sentence


def test_what_is_no_file_of_the_bench(tmp_path):
    with pytest.raises(ValueError, match="holds no list"):
        read(written(tmp_path, "text"), 1)
    with pytest.raises(ValueError, match="no row that RISEBench can use"):
        read(written(tmp_path, {"id": "1", "type": "biology", "ori_img": "1.jpg", "ins_en": "Grow."}), 1)
    with pytest.raises(ValueError, match="one picture"):
        read(written(tmp_path, ROW), 2)
