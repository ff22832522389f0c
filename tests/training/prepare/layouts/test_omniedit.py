"""OmniEdit as Hugging Face keeps it."""

from __future__ import annotations

import pyarrow as pa
from written import parquet, read, stored, told


def test_one_of_several_prompts_is_taken_by_the_rows_number(tmp_path):
    prompts = [["short", "a longer one"]] * 4 + [["only one"], [], None, [" ", "x"], [None]]
    count = len(prompts)
    columns = {
        "omni_edit_id": pa.array([f"task_obj_add_{n}" for n in range(count)]),
        "task": pa.array(["addition"] * count),
        "src_img": stored(*(b"in %d" % n for n in range(count))),
        "edited_img": stored(*(b"out %d" % n for n in range(count))),
        "edited_prompt_list": pa.array(prompts, pa.list_(pa.string())),
        "width": pa.array([1024] * count),
        "height": pa.array([768] * count),
        "o_score": pa.array([9.0] * count),
    }
    for name in ("train-0.parquet", "train-1.parquet"):
        parquet(tmp_path / "data" / name, columns, row_group_size=3)
    rows, left_out = read(tmp_path, expect="omniedit")
    assert [told(row) for row in rows[:2]] == [
        ([b"in 0"], ("short",), [b"out 0"]),
        ([b"in 1"], ("a longer one",), [b"out 1"]),
    ]
    assert [row.texts[0] for row in rows[:6]] == ["short", "a longer one", "short", "a longer one", "only one", "x"]
    assert {row.kind for row in rows} == {"addition"}
    assert [left_out[f"data/train-1.parquet, row {n}"] for n in (5, 6, 8)] == [
        "edited_prompt_list is empty",
        "edited_prompt_list is missing",
        "edited_prompt_list is missing",
    ]
    assert (len(rows), len(left_out)) == (12, 6)
