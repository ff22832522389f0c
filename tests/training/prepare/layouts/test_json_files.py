"""JSON as a stream: any form of it, any size, and what is damaged in it."""

from __future__ import annotations

import json

import pytest
from written import file

from lightbagel_core.training.prepare.layouts import json_files
from lightbagel_core.training.prepare.layouts.unusable import DAMAGED, Unusable

RECORDS = [{"n": n, "text": 'füge 图 \\" ] , hinzu' * (n % 7)} for n in range(1000)]
FORMS = {
    "lines.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "gaps.jsonl": "\n\n" + "\r\n \r\n".join(json.dumps(one, ensure_ascii=False) for one in RECORDS) + "\n\n",
    "list.json": json.dumps(RECORDS),
    "pretty.json": "\ufeff \n" + json.dumps(RECORDS, ensure_ascii=False, indent=4) + "\n",
    "lines.json": "\ufeff" + "\n".join(map(json.dumps, RECORDS)),
}


def records(path):
    return [one for unit in json_files.units(path) for one in json_files.read(unit)]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("chunk", [1, 7, 1000, 1 << 20])
def test_records_are_read_from_where_they_lie(tmp_path, name, chunk, monkeypatch):
    path = file(tmp_path / name, FORMS[name])
    monkeypatch.setattr(json_files, "CHUNK", chunk)
    units = json_files.units(path)
    assert [(unit.first, unit.last) for unit in units] == [(0, 256), (256, 512), (512, 768), (768, 1000)]
    assert [one for unit in units for one in json_files.read(unit)] == list(enumerate(RECORDS))
    assert list(json_files.read(units[2])) == list(enumerate(RECORDS))[512:768]
    assert json_files.names(path) == ["n", "text"]


def test_lists_of_other_things_are_read_too(tmp_path):
    path = file(tmp_path / "a.json", '[1, 23, "x", null, [{"a": 1}, {"b": 2}], -1.5e3 ]')
    assert [one for _, one in records(path)] == [1, 23, "x", None, [{"a": 1}, {"b": 2}], -1500.0]
    assert json_files.names(path) == ["a", "b"]
    assert json_files.units(file(tmp_path / "b.json", " [ ] ")) == []


def test_a_damaged_line_spoils_no_other(tmp_path):
    content = (
        b'{"a": 1}\nnonsense\n{"a": "\xe9"}\n' + b"[" * 100_000 + b"\n" + b'{"a": ' + b"1" * 10_000 + b'}\n{"a": 2}'
    )
    found = [one for _, one in records(file(tmp_path / "a.jsonl", content))]
    assert (found[0], found[-1]) == ({"a": 1}, {"a": 2})
    assert [type(one) for one in found[1:-1]] == [Unusable] * 4
    assert "no JSON" in str(found[1])
    assert "not UTF-8" in str(found[2])


def test_a_line_that_is_too_long_spoils_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "LONGEST", 100)
    for size in (99, 100, 150, 199, 200, 201, 999):
        text = '{"a": 1}\n' + json.dumps({"a": "x" * size})[: size - 1] + '\n{"a": 2}\n'
        found = [one for _, one in records(file(tmp_path / "a.jsonl", text))]
        assert len(found) == 3, size
        assert isinstance(found[1], Unusable)
        assert (found[0], found[2]) == ({"a": 1}, {"a": 2})


def test_text_that_is_not_utf_8_spoils_no_other_record_of_a_list(tmp_path):
    path = file(tmp_path / "a.json", b'[{"a": "caf\xe9"}, {"a": "x"}]' + b" " * 10)
    assert records(path) == [(0, {"a": "caf\udce9"}), (1, {"a": "x"})]


@pytest.mark.parametrize(
    ("end", "why"), [("", "breaks off"), ('{"n": 10', "no JSON"), ("} ]", "no JSON"), ("]", "no J")]
)
def test_a_list_that_breaks_off_is_read_up_to_there(tmp_path, end, why):
    text = "[" + ", ".join(map(json.dumps, RECORDS[:300])) + (", " if end else "") + end
    *units, last = json_files.units(file(tmp_path / "a.json", text))
    assert [one for unit in units for one in json_files.read(unit)] == list(enumerate(RECORDS[:300]))
    assert last.inner[0] == DAMAGED
    assert why in last.inner[1]
    assert "300 records before it are read" in last.inner[1]


def test_a_missing_comma_is_said(tmp_path):
    unit = json_files.units(file(tmp_path / "a.json", '[{"a": 1} {"a": 2}]'))[-1]
    assert "at byte 10: a comma is missing" in unit.inner[1]


@pytest.mark.parametrize("content", [b"", b"hello", b"version https://git-lfs", b"[", b"[}", b"\xff\xfe[\x00"])
def test_what_is_no_json_is_said(tmp_path, content):
    path = file(tmp_path / "a.json", content)
    for of in (json_files.units, json_files.names):
        with pytest.raises(ValueError, match=r"no JSON|neither a list"):
            of(path)


def test_a_bomb_of_brackets_is_no_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "LONGEST", 1 << 20)
    with pytest.raises(ValueError, match="no JSON"):
        json_files.units(file(tmp_path / "a.json", "[" * (1 << 22)))
