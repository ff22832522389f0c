"""GPT-Image-Edit's own records."""

from __future__ import annotations

import json

from written import file, pictures, read, told


def test_its_records(tmp_path):
    pictures(tmp_path / "hqedit" / "edit" / "input", "1.png", "2.png")
    pictures(tmp_path / "hqedit" / "edit" / "output", "1.png")
    record = {
        "id": 1,
        "dataset_source": "hqedit",
        "task": "edit",
        "input": "input/1.png",
        "output": "output/1.png",
        "instruction": "Make it rain.",
        "instruction_type": "original",
        "input_description": "a street",
    }
    file(tmp_path / "hqedit" / "edit" / "metadata.json", json.dumps([record, record | {"output": "output/2.png"}]))
    rows, left_out = read(tmp_path, expect="gpt-image-edit")
    assert [told(row) for row in rows] == [([b"1.png"], ("Make it rain.",), [b"1.png"])]
    assert rows[0].kind == "edit"
    assert "there is no file 'output/2.png'" in left_out["hqedit/edit/metadata.json, row 1"]
