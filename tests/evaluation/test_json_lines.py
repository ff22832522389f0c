from __future__ import annotations

import pytest

from lightbagel_core.evaluation.json_lines import lines_of, parsed


def test_lines_keep_their_numbers_and_end_at_line_feeds_alone(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes('\ufeff{"a": "\u2028"}\r\n\nnonsense\n\n\n'.encode())
    lines = list(lines_of(file))
    assert [where for where, _ in lines] == ["a.jsonl, line 1", "a.jsonl, line 2", "a.jsonl, line 3"]
    assert [number for _, (number, _) in lines] == [0, 1, 2]
    assert parsed(lines[0][1][1], "here") == {"a": "\u2028"}


@pytest.mark.parametrize("line", ["", "nonsense", "{", "[" * 100_000])
def test_what_is_no_json_is_refused_with_its_place(line):
    with pytest.raises(ValueError, match="line 7 is no JSON"):
        parsed(line, "line 7")


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        list(lines_of(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match="is a folder; name the file"):
        list(lines_of(tmp_path))
    for content in ("", "\ufeff", " \n\n"):
        (tmp_path / "empty.jsonl").write_text(content, "utf-8")
        with pytest.raises(ValueError, match=r"empty\.jsonl is empty$"):
            list(lines_of(tmp_path / "empty.jsonl"))
    (tmp_path / "picture.jsonl").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match="cannot be read as text"):
        list(lines_of(tmp_path / "picture.jsonl"))
