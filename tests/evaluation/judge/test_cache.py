"""The file of answers: what it is keyed by, what it survives, what it refuses."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lightbagel_core.evaluation.judge.cache import Cache, fingerprint


def test_answers_are_there_when_the_file_is_opened_again(tmp_path: Path):
    file = tmp_path / "new" / "answers.jsonl"
    cache = Cache(file)
    assert cache.get("a" * 64) is None
    cache.add("a" * 64, 'two\nlines, "quotes", 红, \ud800', id="1/en", model="m")
    cache.add("b" * 64, "no")
    cache.add("b" * 64, "later")
    again = Cache(file)
    assert len(again) == 2
    assert again.get("a" * 64) == 'two\nlines, "quotes", 红, \ud800'
    assert again.get("b" * 64) == "later"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert rows[0].keys() == {"key", "id", "model", "text"}


def test_all_that_determines_an_answer_changes_the_fingerprint():
    def body(text="t", picture="p", **rest):
        return {"model": "m", "messages": [{"role": "user", "content": [text, picture]}], **rest}

    prints = [
        fingerprint("u", body()),
        fingerprint("v", body()),
        fingerprint("u", body(text="T")),
        fingerprint("u", body(picture="q")),
        fingerprint("u", body(temperature=0.0)),
        fingerprint("u", body(temperature=1.0)),
        fingerprint("u", body() | {"model": "n"}),
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(one) == 64 for one in prints)
    assert fingerprint("u", {"a": 1, "b": 2}) == fingerprint("u", {"b": 2, "a": 1})


def test_a_file_cut_anywhere_loses_one_answer_at_most_and_takes_new_ones(tmp_path: Path):
    file = tmp_path / "answers.jsonl"
    cache = Cache(file)
    for letter in "abc":
        cache.add(letter * 64, f"answer {letter}")
    whole = file.read_bytes()
    second = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for end in range(second, len(whole)):
        file.write_bytes(whole[:end])
        cache = Cache(file)
        assert cache.get("b" * 64) == "answer b"
        assert cache.get("c" * 64) == ("answer c" if end == len(whole) - 1 else None)  # but for the line's end, whole
        cache.add("d" * 64, "answer d")
        cache.add("e" * 64, "answer e")
        assert {key: Cache(file).get(key * 64) for key in "abde"} == {key: f"answer {key}" for key in "abde"}


def test_zeros_that_a_power_cut_leaves_are_passed_over(tmp_path: Path):
    file = tmp_path / "answers.jsonl"
    Cache(file).add("a" * 64, "yes")
    with open(file, "ab") as out:
        out.write(b"\0" * 100)
    cache = Cache(file)
    cache.add("b" * 64, "no")
    assert Cache(file).get("a" * 64) == "yes"
    assert Cache(file).get("b" * 64) == "no"


@pytest.mark.parametrize("content", [b'{"prompt": "a dog"}\n', b"a,b\n1,2\n", b"\x89PNG\r\n", b"[]"])
def test_another_file_is_not_written_into(tmp_path: Path, content: bytes):
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds no judge's answers \(line 1\)"):
        Cache(file)
    with pytest.raises(ValueError, match="cannot be read"):
        Cache(tmp_path)


def test_lines_of_many_threads_do_not_mix(tmp_path: Path):
    file = tmp_path / "answers.jsonl"
    caches = [Cache(file), Cache(file)]  # as two processes have it
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: caches[i % 2].add(f"{i:064}", f"{i} " * 1000), range(200)))
    again = Cache(file)
    assert len(again) == 200
    assert all(again.get(f"{i:064}") == f"{i} " * 1000 for i in range(200))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_said(tmp_path: Path):
    cache = Cache(tmp_path / "answers.jsonl")
    cache.file = Path("/dev/full")
    with pytest.raises(ValueError, match="cannot be written to /dev/full"):
        cache.add("a" * 64, "yes")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ValueError, match="cannot be written to"):
        Cache(tmp_path / "file" / "answers.jsonl").add("a" * 64, "yes")
