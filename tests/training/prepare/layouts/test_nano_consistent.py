"""Nano-consistent-150k as its authors pack it."""

from __future__ import annotations

from written import lines, pictures, read, told


def test_its_paths_begin_with_a_folder_that_is_the_source(tmp_path):
    pictures(tmp_path / "background" / "input", "1.png", "2.png")
    pictures(tmp_path / "background" / "output", "1.png")
    one = {
        "instruction": "Put her on a beach.",
        "input_images": ["Nano-150k/background/input/1.png"],
        "output_image": "Nano-150k/background/output/1.png",
        "task_type": "background_change",
    }
    two = one | {"input_images": [f"Nano-150k/background/input/{n}.png" for n in (1, 2)]}
    out = one | {"input_images": ["Nano-150k/../../../1.png"]}
    lines(tmp_path / "json" / "background_change_cleaned.jsonl", one, two, out)
    rows, left_out = read(tmp_path, expect="nano-consistent-150k")
    assert [told(row) for row in rows] == [
        ([b"1.png"], ("Put her on a beach.",), [b"1.png"]),
        ([b"1.png", b"2.png"], ("Put her on a beach.",), [b"1.png"]),
    ]
    assert rows[0].kind == "background_change"
    assert "leads out of" in left_out["json/background_change_cleaned.jsonl, row 2"]
