"""ImgEdit Basic: its prompt file, the judge's questions and record, and its two overall figures."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from lightbagel_core.evaluation.bench import Files
from lightbagel_core.evaluation.benches.imgedit import read

ROWS = {
    "1082": {"id": "animal/1.jpg", "prompt": "Make the shell smooth.", "edit_type": "adjust"},
    "673": {"id": "style/2.jpg", "prompt": "As a woodcut of <edit_prompt>.", "edit_type": "style"},
    "7": {"id": "daily object/3.jpg", "prompt": 'Remove the "77" — 红色.', "edit_type": "remove"},
}


@pytest.fixture
def files(tmp_path):
    """A bench's folder with sources of 6 x 4, and an output folder."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "out").mkdir()
    for shade, row in enumerate(ROWS.values()):
        file = tmp_path / "bench" / row["id"]
        file.parent.mkdir(parents=True)
        Image.new("RGB", (6, 4), (shade * 40,) * 3).save(file)
    file = tmp_path / "bench" / "basic_edit.json"
    file.write_text(json.dumps(ROWS), "utf-8")
    return Files(file, tmp_path / "out")


def test_it_reads_its_prompt_file(files):
    reading = read(files, 1)
    assert reading.unusable == ()
    assert [(item.id, item.group, item.turns) for item in reading.items] == [
        (key, row["edit_type"], (row["prompt"],)) for key, row in ROWS.items()
    ]
    assert [item.files for item in reading.items] == [((PurePosixPath(f"{key}.png"),),) for key in ROWS]
    shades = [np.asarray(item.sources[0].open()).mean() for item in reading.items]
    assert shades == pytest.approx([0, 40, 80], abs=2)


def test_sources_may_lie_elsewhere(files, tmp_path):
    (tmp_path / "bench" / "animal").rename(tmp_path / "animal")
    first = read(Files(files.prompts, files.out, images=tmp_path), 1).items[0]
    assert first.sources[0].open().size == (6, 4)
    with pytest.raises(ValueError, match="no image file"):
        read(files, 1).items[0].sources[0].open()


@pytest.mark.parametrize(
    ("key", "row", "says"),
    [
        ("../9", {}, "cannot become the name"),
        ("con", {}, "cannot become the name"),
        ("C:9", {}, "cannot become the name"),
        ("9", {"id": "../../etc/passwd"}, "does not stay below"),
        ("9", {"id": "/etc/passwd"}, "does not stay below"),
        ("9", {"id": "C:\\x.jpg"}, "does not stay below"),
        ("9", {"id": None}, "is no name of a file"),
        ("9", {"prompt": ""}, "'prompt' is no text"),
        ("9", {"edit_type": 3}, "'edit_type' is no text"),
        ("9", None, "is no object"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_goes_on(files, key, row, says):
    bad = None if row is None else {"id": "animal/1.jpg", "prompt": "p", "edit_type": "add", **row}
    files.prompts.write_text(json.dumps({**ROWS, key: bad}), "utf-8")
    reading = read(files, 1)
    assert [item.id for item in reading.items] == list(ROWS)
    assert len(reading.unusable) == 1
    assert says in reading.unusable[0]
    assert repr(key) in reading.unusable[0]


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"a": 1}', '[{"Prompt": "x", "prompt_id": 1}]'])
def test_another_file_is_refused(files, content):
    files.prompts.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=r"basic_edit\.json"):
        read(files, 1)
    with pytest.raises(ValueError, match="one picture"):
        read(files, 4)
