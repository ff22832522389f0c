"""ShareGPT-4o-Image: pictures from texts, and edits, in a JSON list each."""

from __future__ import annotations

import json

from written import file, pictures, read, told


def test_both_of_its_lists(tmp_path):
    pictures(tmp_path / "image", "t2i_0.png", "v2v_0.png", "v2v_1.png", "v2v_2.png")
    text = {
        "input_prompt": "A café at night.",
        "output_image": "image/t2i_0.png",
        "output_image_resolution": [1024, 1024],
    }
    edit = {
        "input_prompt": "Put both together.",
        "input_image": ["image/v2v_0.png", "image/v2v_1.png"],
        "input_image_resolution": [[512, 512], [640, 480]],
        "output_image": "image/v2v_2.png",
        "output_image_resolution": [1024, 1024],
    }
    file(tmp_path / "text_to_image.json", json.dumps([text, text | {"output_image": "image/t2i_9.png"}], indent=2))
    file(tmp_path / "text_and_image_to_image.json", json.dumps([edit], ensure_ascii=False))
    rows, left_out = read(tmp_path, expect="sharegpt-4o-image")
    assert [told(row) for row in rows] == [
        ([b"v2v_0.png", b"v2v_1.png"], ("Put both together.",), [b"v2v_2.png"]),
        ([], ("A café at night.",), [b"t2i_0.png"]),
    ]
    assert "there is no file 'image/t2i_9.png'" in left_out["text_to_image.json, row 1"]
