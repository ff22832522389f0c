"""What all layouts of records share: which files are theirs, what is wrong with a source, a row, a file."""

from __future__ import annotations

import pyarrow as pa
import pytest
from written import file, lines, parquet, pictures, read, stored

from lightbagel_core.training.prepare.layouts import LAYOUTS
from lightbagel_core.training.prepare.layouts.records import files_of


def test_files_are_found_at_any_depth_but_hidden_ones(tmp_path):
    for name in ("b/a.parquet", "a.PARQUET", ".git/a.parquet", "b/.cache/x.parquet", "c.json"):
        file(tmp_path / name)
    assert files_of(tmp_path, (".parquet",)) == [tmp_path / "a.PARQUET", tmp_path / "b" / "a.parquet"]
    assert files_of(tmp_path / "c.json", (".json",)) == [tmp_path / "c.json"]
    assert files_of(tmp_path / "c.json", (".parquet",)) == []


def test_a_row_that_is_damaged_spoils_no_other(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    good = {"instruction": "add a hat", "input_images": ["a.png"], "output_image": "b.png"}
    bad = {
        "instruction is empty": good | {"instruction": " "},
        "instruction is missing": good | {"instruction": None},
        "instruction is no text": good | {"instruction": 7},
        "output_image holds no picture": good | {"output_image": None},
        "there is no file 'none.png'": good | {"output_image": "none.png"},
        "is an address": good | {"input_images": ["a.png", "https://x.org/a.png"]},
        "leads out of": good | {"input_images": ["../a.png"]},
        "it is no object but null": None,
        "instruction is missing ": {},
        "instruction is missing  ": [good],
        "input_images 0 is no picture but a number": good | {"input_images": [1]},
        "input_images 0 holds no picture": good | {"input_images": [None]},
    }
    lines(tmp_path / "a.jsonl", good, *bad.values(), good)
    rows, left_out = read(tmp_path, "nano-consistent-150k")
    assert [row.key for row in rows] == ["a.jsonl, row 0", f"a.jsonl, row {len(bad) + 1}"]
    assert list(left_out) == [f"a.jsonl, row {n + 1}" for n in range(len(bad))]
    for why, said in zip(bad, left_out.values(), strict=True):
        assert why.strip() in said or "output_image holds no picture" in said, (why, said)


def test_ten_thousand_damaged_rows_are_all_told(tmp_path):
    pictures(tmp_path, "a.png")
    good = {"instruction": "add a hat", "input_images": ["a.png"], "output_image": "a.png"}
    lines(tmp_path / "a.jsonl", *[good | {"output_image": "none.png"}] * 10_000, good)
    rows, left_out = read(tmp_path, expect="nano-consistent-150k")
    assert (len(rows), len(left_out)) == (1, 10_000)


def test_wrong_columns_are_named_with_those_wanted(tmp_path):
    parquet(tmp_path / "a.parquet", {"src": stored(b"1"), "edited_img": stored(b"2"), "prompt": pa.array(["x"])})
    with pytest.raises(ValueError, match=r"lacks src_img, edited_prompt_list and has src, edited_img, prompt") as told:
        LAYOUTS["omniedit"].units(tmp_path)
    assert "which needs Parquet or JSON with src_img, edited_prompt_list, edited_img" in str(told.value)
    with pytest.raises(
        ValueError, match=r"lacks original_image or input_image or source_image, edit_prompt, edited_image"
    ):
        LAYOUTS["instruct-pix2pix"].units(tmp_path)


def test_a_source_without_files_is_told_what_is_wanted(tmp_path):
    pictures(tmp_path, "a.png")
    for name, layout in LAYOUTS.items():
        with pytest.raises(ValueError, match=r"needs|needs one folder|has no folder control"):
            layout.units(tmp_path)
        assert not layout.fits(tmp_path), name


def test_a_damaged_file_is_left_out_and_the_next_is_read(tmp_path):
    columns = {"src_img": stored(b"1"), "edited_img": stored(b"2"), "edited_prompt_list": pa.array([["x"]])}
    parquet(tmp_path / "b.parquet", columns)
    file(tmp_path / "a.parquet", b"PAR1 broken off")
    parquet(tmp_path / "c.parquet", {"other": pa.array([1])})
    rows, left_out = read(tmp_path, expect="omniedit")
    assert [row.key for row in rows] == ["b.parquet, row 0"]
    assert list(left_out) == ["a.parquet", "c.parquet"]
    assert "it lacks src_img" in left_out["c.parquet"]
    (tmp_path / "b.parquet").unlink()
    with pytest.raises(ValueError, match=r"a\.parquet: it cannot be read"):
        LAYOUTS["omniedit"].units(tmp_path)


def test_a_file_that_is_damaged_inside_is_left_out_from_there(tmp_path):
    count = 64
    columns = {
        "src_img": stored(*[b"s" * 5000] * count),
        "edited_img": stored(*[b"%05d" % n * 1000 for n in range(count)]),
        "edited_prompt_list": pa.array([["x"]] * count),
    }
    path = parquet(tmp_path / "a.parquet", columns, compression="none", use_dictionary=False, row_group_size=32)
    whole, _ = read(tmp_path)
    assert len(whole) == count
    content = bytearray(path.read_bytes())
    content[4:3000] = b"\xff" * 2996
    path.write_bytes(content)
    rows, left_out = read(tmp_path)
    assert [row.key for row in rows] == [f"a.parquet, row {n}" for n in range(32, 64)]
    assert list(left_out) == ["a.parquet, rows 0 to 31"]
