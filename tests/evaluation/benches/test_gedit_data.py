"""GEdit-Bench's data set: its rows, and how little of it is held."""

from __future__ import annotations

import struct
import sys
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gedit_files import picture, row, write_arrow, write_parquet
from PIL import Image

from lightbagel_core.evaluation.benches.gedit_data import PICTURE, read_rows

ROWS = [row("color_alter", f"k{number}", words=f"改 {number}", content=picture(number)) for number in range(7)]
WRITERS = {
    "parquet": lambda folder: write_parquet(folder, ROWS, group=3),
    "a stream": lambda folder: write_arrow(folder, ROWS),
    "an arrow file": lambda folder: write_arrow(folder, ROWS, stream=False),
}


@pytest.fixture(params=WRITERS)
def file(request, tmp_path):
    return WRITERS[request.param](tmp_path / "set")


def test_rows_and_their_pictures(file, tmp_path):
    for path in (tmp_path / "set", file):
        rows, damaged = read_rows(path)
        assert damaged == []
        assert [one.words["instruction"] for one in rows] == [one["instruction"] for one in ROWS]
        assert set(rows[0].words) == {"task_type", "key", "instruction", "instruction_language", "Intersection_exist"}
        for one, wanted in reversed(list(zip(rows, ROWS, strict=True))):
            pixels = np.asarray(Image.open(BytesIO(wanted["input_image"]["bytes"])))
            assert (np.asarray(one.source.open()) == pixels).all()


@pytest.mark.parametrize(
    ("write", "peak"), [(lambda folder, rows: write_parquet(folder, rows, group=5), 10), (write_arrow, 1)]
)
def test_pictures_are_not_held(write, peak, tmp_path):
    """30 pictures of 0.3 MB: Arrow's own memory, at rest and at its highest; Parquet must read a row group for one."""
    noise = picture(0, (400, 250))
    big = [row("ps_human", str(number), content=noise + bytes([number])) for number in range(30)]
    one = len(big[0]["input_image"]["bytes"])
    assert one > 290_000
    write(tmp_path, big)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        rows, _ = read_rows(tmp_path)
        assert len(rows) == 30
        assert pool.max_memory() < one
        assert rows[-1].source.open().size == (400, 250)
        assert pool.bytes_allocated() < 0.1 * one
        assert pool.max_memory() < peak * one
    finally:
        pa.set_memory_pool(before)
    held = sum(sys.getsizeof(value) for one in rows for value in one.words.values())
    assert held < 30 * 500


def test_files_of_several_shards_and_one_damaged(tmp_path):
    for number in range(3):
        file = write_parquet(tmp_path, ROWS[number : number + 1], name=f"train-0000{number}-of-00003")
        if number == 1:
            file.write_bytes(file.read_bytes()[:-100])
    rows, (damaged,) = read_rows(tmp_path)
    assert [one.words["key"] for one in rows] == ["k0", "k2"]
    assert "train-00001-of-00003.parquet cannot be read" in damaged


@pytest.mark.parametrize("keep", [40, 300, 1500, -50])
@pytest.mark.parametrize("write", [write_parquet, write_arrow])
def test_a_file_that_was_cut_off(write, tmp_path, keep):
    file = write(tmp_path, ROWS)
    file.write_bytes(file.read_bytes()[:keep])
    rows, damaged = read_rows(file)
    assert damaged == [] or file.name in damaged[0]
    for one in rows:
        said = file.name
        try:
            one.source.open()
        except ValueError as error:
            said = str(error)
        assert file.name in said


@pytest.mark.parametrize("column", ["instruction", PICTURE])
def test_offsets_that_lead_out_of_the_file(tmp_path, column):
    """Arrow follows them unchecked when it is not told to look."""
    file = write_arrow(tmp_path, ROWS)
    first, second = (len(one[column]["bytes"] if column == PICTURE else one[column].encode()) for one in ROWS[:2])
    right = struct.pack("<3i", 0, first, first + second)
    content = file.read_bytes()
    assert right in content
    file.write_bytes(content.replace(right, struct.pack("<3i", 0, first, 1 << 30), 1))
    rows, damaged = read_rows(tmp_path)
    if column == PICTURE:
        assert len(rows) == 7
        with pytest.raises(ValueError, match="cannot be read") as raised:
            rows[1].source.open()
        damaged = [str(raised.value)]
    assert "data-00000-of-00001.arrow cannot be read" in damaged[0]


def test_a_pointer_in_place_of_a_file(tmp_path):
    file = tmp_path / "train.parquet"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "utf-8")
    assert "Git LFS pointer" in read_rows(tmp_path)[1][0]


def test_a_table_of_something_else(tmp_path):
    pq.write_table(pa.table({"key": ["a"], "input_image": [b""]}), tmp_path / "other.parquet")
    rows, (damaged,) = read_rows(tmp_path)
    assert rows == []
    assert "no column 'task_type', 'instruction'" in damaged
    (tmp_path / "other.parquet").unlink()
    for path in (tmp_path, tmp_path / "none", tmp_path / "gedit_data.py"):
        with pytest.raises(ValueError, match=r"neither \*\.parquet nor \*\.arrow"):
            read_rows(path)


@pytest.mark.parametrize(("content", "says"), [(b"", "not an image"), (b"GIF89a", "not an image|damaged")])
def test_a_picture_that_cannot_be_read(tmp_path, content, says):
    write_parquet(tmp_path, [row("ps_human", "a", content=content), {**ROWS[1], "input_image": None}])
    bad, none = read_rows(tmp_path)[0]
    with pytest.raises(ValueError, match=rf"train-00000-of-00001\.parquet, row 0: input_image.*({says})"):
        bad.source.open()
    with pytest.raises(ValueError, match="row 1: input_image holds no picture"):
        none.source.open()


def test_a_picture_that_is_gone(tmp_path):
    write_parquet(tmp_path, ROWS)
    rows, _ = read_rows(tmp_path)
    file = write_parquet(tmp_path, ROWS[:2])
    with pytest.raises(ValueError, match="row 5: input_image holds no picture"):
        rows[5].source.open()
    file.unlink()
    with pytest.raises(ValueError, match=r"parquet cannot be read: .*No such file"):
        rows[0].source.open()


def test_without_pyarrow(tmp_path, monkeypatch):
    write_parquet(tmp_path, ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install pyarrow"):
        read_rows(tmp_path)
