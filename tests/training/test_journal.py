"""The record of a run: each step once, whatever was killed, and never a line that spoils another."""

from __future__ import annotations

import errno
import json
import math
import os

import pytest
import torch

from lightbagel_core.training import journal
from lightbagel_core.training.journal import FILE, Journal, read


def steps(record) -> list[int]:
    return [line["step"] for line in record.of("step")]


def run(folder, step=None, until=5, **options) -> None:
    book = Journal(folder / FILE, step, **options)
    book.write("start", step or 0)
    for done in range((step or 0) + 1, until + 1):
        book.write("step", done, loss=1 / done)
    book.close()


def test_lines_come_back_as_they_were_written(tmp_path):
    book = Journal(tmp_path / "new" / FILE)
    book.write("start", 0, what="drawing", trained=["fusion"])
    book.write("step", 1, loss=torch.tensor(0.123456789), lr=3e-5, tokens=4096)
    book.write("validation", 1, held_out=math.nan, suites={"nano-geneval": 0.25})
    start, step, validation = read(book.file).lines
    assert (start["what"], start["trained"]) == ("drawing", ["fusion"])
    assert torch.tensor(step["loss"]) == torch.tensor(0.123456789), "nine digits tell any two float32 apart"
    assert (step["lr"], step["tokens"]) == (3e-5, 4096)
    assert validation["held_out"] is None
    assert validation["suites"] == {"nano-geneval": 0.25}
    assert [line["seconds"] for line in (start, step, validation)] == sorted(
        line["seconds"] for line in (start, step, validation)
    )
    assert book.has("validation", 1)
    assert not book.has("validation", 0)
    assert "NaN" not in book.file.read_text("utf-8"), "which is no JSON"


def test_a_resumed_run_has_each_step_once(tmp_path):
    run(tmp_path, until=7)
    run(tmp_path, step=4, until=6)
    record = read(tmp_path / FILE)
    assert steps(record) == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in record.of("start")] == [0, 4]
    run(tmp_path, step=0, until=2)  # nothing was saved: from the beginning
    assert steps(read(tmp_path / FILE)) == [1, 2]


def test_seconds_go_on_where_the_kept_lines_end(tmp_path):
    lines = [{"kind": "step", "step": step, "seconds": 100.0 * step} for step in (1, 2, 3)]
    (tmp_path / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert 200 <= Journal(tmp_path / FILE, 2).seconds < 210


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_said_and_cut_off(tmp_path, cut):
    run(tmp_path, until=3)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: -1 - cut])
    record = read(tmp_path / FILE)
    assert steps(record) == [1, 2]
    assert f"the last line of {tmp_path / FILE} is torn" in record.note
    book = Journal(tmp_path / FILE, 2)
    assert "torn" in book.note
    book.write("step", 3)
    assert steps(read(tmp_path / FILE)) == [1, 2, 3]
    assert read(tmp_path / FILE).note == ""


def test_a_last_line_that_lacks_only_its_end_is_whole(tmp_path):
    run(tmp_path, until=3)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1])
    assert steps(read(tmp_path / FILE)) == [1, 2, 3]
    run(tmp_path, step=3, until=4)
    assert steps(read(tmp_path / FILE)) == [1, 2, 3, 4]


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"kind": "step"}', b'{"kind": "step", "step": "1"}', b"\xff"])
def test_a_damaged_line_before_the_last_is_named(tmp_path, damage):
    run(tmp_path, until=2)
    first, second, *rest = (tmp_path / FILE).read_bytes().split(b"\n")
    (tmp_path / FILE).write_bytes(b"\n".join([first, damage, second, *rest]))
    for act in (lambda: read(tmp_path / FILE), lambda: Journal(tmp_path / FILE, 2)):
        with pytest.raises(ValueError, match=f"{FILE}, line 2 is no line of a record"):
            act()
    assert damage in (tmp_path / FILE).read_bytes(), "nothing is thrown away"


def test_two_runs_do_not_share_a_folder(tmp_path):
    book = Journal(tmp_path / FILE)
    with pytest.raises(ValueError, match=r"another run is writing to .* now"):
        Journal(tmp_path / FILE, 0)
    book.write("start", 0)
    book.close()
    with pytest.raises(ValueError, match="holds the record of another run: choose another folder, or resume") as held:
        Journal(tmp_path / FILE)
    Journal(tmp_path / FILE, 0).close()
    assert held, "the refused one is still there, and has no lock"


def test_a_full_disk_leaves_the_lines_before(tmp_path, monkeypatch):
    run(tmp_path, until=2)
    book = Journal(tmp_path / FILE, 2)
    monkeypatch.setattr(journal, "_write", lambda descriptor, content: os.write(descriptor, content[:9]))
    with pytest.raises(ValueError, match=f"could not write .*{FILE}: the disk is full"):
        book.write("step", 3)
    monkeypatch.undo()
    assert steps(read(tmp_path / FILE)) == [1, 2]
    assert read(tmp_path / FILE).note == ""
    book.write("step", 3)
    assert steps(read(tmp_path / FILE)) == [1, 2, 3]


def test_a_disk_that_fails_is_a_sentence(tmp_path, monkeypatch):
    def fail(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    book = Journal(tmp_path / FILE)
    monkeypatch.setattr(journal, "_write", fail)
    with pytest.raises(ValueError, match=r"could not write .*: No space left on device"):
        book.write("step", 1)
    assert not book.has("step", 1)


def test_a_cut_that_fails_leaves_the_record_as_it_was(tmp_path, monkeypatch):
    run(tmp_path, until=5)
    before = (tmp_path / FILE).read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ValueError, match="No space left"):
        Journal(tmp_path / FILE, 3)
    monkeypatch.undo()
    assert (tmp_path / FILE).read_bytes() == before
    Journal(tmp_path / FILE, 3).close()
    assert steps(read(tmp_path / FILE)) == [1, 2, 3]


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ValueError, match="could not write"):
        Journal(tmp_path / "file" / FILE)
    (tmp_path / FILE).mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path / FILE)


def test_no_file_is_an_empty_record(tmp_path):
    assert read(tmp_path / FILE).lines == ()
