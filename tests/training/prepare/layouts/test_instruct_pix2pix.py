"""InstructPix2Pix as Hugging Face keeps it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from written import parquet, read, stored, told


@pytest.mark.parametrize("source", ["original_image", "input_image", "source_image"])
def test_its_columns(tmp_path, source):
    columns = {
        "original_prompt": pa.array(["a street", "a cat", None]),
        source: stored(b"in 0", b"in 1", None),
        "edit_prompt": pa.array(["make it rain", None, "x"]),
        "edited_prompt": pa.array(["a street in rain", "", ""]),
        "edited_image": stored(b"out 0", b"out 1", b"out 2"),
    }
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", columns)
    rows, left_out = read(tmp_path, expect="instruct-pix2pix")
    assert [told(row) for row in rows] == [([b"in 0"], ("make it rain",), [b"out 0"])]
    assert rows[0].key == "data/train-00000-of-00001.parquet, row 0"
    assert rows[0].targets[0].name == "data/train-00000-of-00001.parquet, row 0, edited_image"
    assert list(left_out.values()) == [
        "edit_prompt is missing",
        f"data/train-00000-of-00001.parquet, row 2, {source} holds no picture",
    ]


def test_a_text_that_is_not_utf_8_spoils_no_other(tmp_path):
    columns = {
        "original_image": stored(b"1", b"2"),
        "edit_prompt": pa.array([b"caf\xe9", b"ok"], pa.binary()).view(pa.string()),
        "edited_image": pa.array([b"3", b"4"], pa.binary()),
    }
    rows, left_out = read(parquet(tmp_path / "a.parquet", columns))
    assert [told(row) for row in rows] == [([b"2"], ("ok",), [b"4"])]
    assert left_out == {"a.parquet, row 0": "edit_prompt is not UTF-8; save it as UTF-8"}
