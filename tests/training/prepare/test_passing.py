"""A store is the same however often its pass is killed; what cannot be learned from is counted, listed, and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from small_layout import Lines, write_lines

from lightbagel_core.training.data.store import FILE, LEFT_OUT, Store
from lightbagel_core.training.data.store_set import StoreSet
from lightbagel_core.training.prepare import passing, shards
from lightbagel_core.training.prepare.passing import DOUBLE, LOCK, NOTE, Asked, prepare

WORDS = [word for n in range(60) for word in (n, n + 200, "bad" if n % 7 == 0 else n + 400, n // 2)]


def asked(*files: Path, name: str = "mine", **more) -> list[Asked]:
    return [Asked(name, tuple((file, Lines()) for file in files), **more)]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", 25)


@pytest.fixture
def source(tmp_path):
    return write_lines(tmp_path / "a.txt", WORDS)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Killed(BaseException):
    """As abrupt as a kill, as far as this process can play it."""


def killed_at(monkeypatch, number: int):
    """The pass ends as the unit of this number is to be read."""
    real, calls = passing.check_unit, iter(range(10**6))

    def check(*args):
        if next(calls) == number:
            raise Killed
        return real(*args)

    monkeypatch.setattr(passing, "check_unit", check)


def test_rows_come_in_order_and_doubles_are_left_out(source, tmp_path):
    manifest, (tally,) = prepare(tmp_path / "store", asked(source, source="my own", licence="cc0"))
    store = Store(tmp_path / "store")
    assert store.manifest == manifest
    kept = list(dict.fromkeys(f"level {word}" for word in WORDS if word != "bad"))
    assert [store.measures(number)[2] for number in range(store.count)] == [[text] for text in kept]
    assert (tally.rows, tally.left_out) == (len(kept), 9)
    assert tally.rows + tally.left_out + tally.doubles == len(WORDS)
    (about,) = manifest.sets
    assert (about.name, about.layout, about.source, about.licence) == ("mine", "lines", "my own", "cc0")
    assert {file.name for file in (tmp_path / "store").iterdir()} == {
        FILE, LEFT_OUT, *(shard.name for shard in manifest.shards)
    }  # fmt: skip
    assert len(manifest.shards) > 4
    assert StoreSet(tmp_path / "store")[1].edit is (WORDS[1] % 2 == 1)
    lines = [json.loads(line) for line in (tmp_path / "store" / LEFT_OUT).read_text("utf-8").splitlines()]
    assert len(lines) == tally.left_out + tally.doubles
    assert {"set": "mine", "key": "a.txt, line 3", "why": DOUBLE} in lines
    assert sum("not an image" in line["why"] for line in lines) == 9


def test_a_pass_that_was_killed_anywhere_gives_the_same_store(source, tmp_path, monkeypatch):
    prepare(tmp_path / "whole", asked(source))
    for number in range(1, 24, 3):
        folder = tmp_path / f"killed {number}"
        with monkeypatch.context() as patch:
            killed_at(patch, number)
            with pytest.raises(Killed):
                prepare(folder, asked(source))
        assert not (folder / FILE).exists()
        (folder / ".rows-00099.arrow.partial").write_bytes(b"half")  # as a kill leaves it
        (folder / "rows-00077.arrow").write_bytes(b"whole, but in no note")
        with open(folder / LEFT_OUT, "ab") as lines:
            lines.write(b"half a li")
        prepare(folder, asked(source))
        assert content(folder) == content(tmp_path / "whole")


def test_what_was_done_is_not_done_again(source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_at(patch, 20)
        with pytest.raises(Killed):
            prepare(tmp_path / "store", asked(source))
    read = []
    real = passing.check_unit
    monkeypatch.setattr(passing, "check_unit", lambda *args: read.append(args[2].first) or real(*args))
    prepare(tmp_path / "store", asked(source))
    assert 140 <= read[0] <= 200
    assert read[-1] == 230


def test_a_kill_at_the_very_end_is_mended(source, tmp_path, monkeypatch):
    """Between the manifest and the note's deletion."""

    def unlink(path, missing_ok=False):
        if path.name == NOTE:
            raise Killed
        if path.exists() or not missing_ok:
            os.unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(Killed):
            prepare(tmp_path / "store", asked(source))
    assert (tmp_path / "store" / NOTE).exists()
    assert prepare(tmp_path / "store", asked(source))[1] == []
    prepare(tmp_path / "whole", asked(source))
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_sets_are_added_to_a_store_whose_rows_stay_as_they_are(source, tmp_path):
    store, more = tmp_path / "store", write_lines(tmp_path / "b.txt", [0, 1000, 1001, "lost"])
    prepare(store, asked(source))
    before = content(store)
    manifest, (tally,) = prepare(store, asked(more, name="more"))
    assert [about.name for about in manifest.sets] == ["mine", "more"]
    assert (tally.rows, tally.doubles, tally.left_out) == (2, 1, 1)
    assert manifest.shards[-1].set == 1
    after = content(store)
    assert all(after[name] == whole for name, whole in before.items() if name.endswith(".arrow"))
    assert prepare(store, asked(more, name="more")) == (manifest, [])
    assert content(store) == after
    write_lines(more, [5000])
    with pytest.raises(ValueError, match="has a set more already, which was made of other files"):
        prepare(store, asked(more, name="more"))
    with pytest.raises(ValueError, match="has a set mine already"):
        prepare(store, asked(source), longest=64)


def test_files_that_changed_since_the_kill_are_noticed(source, tmp_path, monkeypatch):
    store = tmp_path / "store"
    with monkeypatch.context() as patch:
        killed_at(patch, 20)
        with pytest.raises(Killed):
            prepare(store, asked(source))
    with pytest.raises(ValueError, match=r"half prepared: of mine .*, and now asked of other .* Begin again as before"):
        prepare(store, asked(source, name="other"))
    about = source.stat()
    os.utime(source, ns=(1, 1))
    with pytest.raises(ValueError, match=r"the files of mine are not those that .* was begun with"):
        prepare(store, asked(source))
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))
    first = store / "rows-00000.arrow"
    whole = first.read_bytes()
    first.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"rows-00000.arrow is not what this pass wrote"):
        prepare(store, asked(source))
    first.write_bytes(whole)
    note = (store / NOTE).read_bytes()
    (store / NOTE).write_bytes(note[:99])
    with pytest.raises(ValueError, match=r".prepare.json, by which a pass goes on, is damaged"):
        prepare(store, asked(source))
    (store / NOTE).write_bytes(note)
    assert prepare(store, asked(source))[0].rows


def test_ten_thousand_damaged_rows_are_counted_and_listed_and_the_rest_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("small_layout.PIECE", 500)
    kinds = ["bad", "lost", "text"]
    file = write_lines(tmp_path / "a.txt", [*(kinds[n % 3] for n in range(10_000)), *range(20_000, 20_030)])
    manifest, (tally,) = prepare(tmp_path / "store", asked(file))
    assert (manifest.rows, tally.left_out) == (30, 10_000)
    assert sorted(count for count, _ in tally.reasons.values()) == [3333, 3333, 3334]
    lines = (tmp_path / "store" / LEFT_OUT).read_text("utf-8").splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == 10_000


def test_where_nothing_can_be_learned_from_there_is_no_store(tmp_path):
    file = write_lines(tmp_path / "a.txt", ["bad", "lost"])
    with pytest.raises(
        ValueError, match=r"nothing of mine can be learned from: a target is not an image .*; it is lost"
    ):
        prepare(tmp_path / "store", asked(file))
    assert {file.name for file in (tmp_path / "store").iterdir()} == {LEFT_OUT}
    prepare(tmp_path / "store", asked(write_lines(file, [3])))  # once it is mended


def test_one_pass_at_a_time(source, tmp_path):
    (tmp_path / "store").mkdir()
    with FileLock(tmp_path / "store" / LOCK), pytest.raises(ValueError, match="another pass is writing"):
        prepare(tmp_path / "store", asked(source))


def test_other_peoples_folders_stay_as_they_are(source, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "cat.png").touch()
    with pytest.raises(ValueError, match=r"holds other files \(cat.png\); choose a new folder"):
        prepare(folder, asked(source))
    with pytest.raises(ValueError, match="lie in each other"):
        prepare(tmp_path / "pictures" / "store", asked(folder))
    assert [file.name for file in folder.iterdir()] == ["cat.png"]
    prepare(tmp_path / "store", asked(source))
    (tmp_path / "store" / FILE).unlink()
    with pytest.raises(ValueError, match=r"holds a store's rows, but no store.json"):
        prepare(tmp_path / "store", asked(source))
    (tmp_path / "a file").touch()
    with pytest.raises(ValueError, match="a file cannot be written to"):
        prepare(tmp_path / "a file", asked(source))


SCRIPT = """
import sys
from pathlib import Path
from small_layout import Lines
from lightbagel_core.training.prepare import shards
from lightbagel_core.training.prepare.passing import Asked, prepare
if __name__ == "__main__":
    shards.SHARD_ROWS = 25
    source, store = map(Path, sys.argv[1:])
    prepare(store, [Asked("mine", ((source, Lines()),))], workers=2)
"""


@pytest.mark.slow
def test_a_pass_of_several_processes_that_is_really_killed_gives_the_same_store(tmp_path):
    source = write_lines(
        tmp_path / "a.txt", [word for n in range(8) for word in (*range(n * 150, n * 150 + 160), "bad")]
    )
    prepare(tmp_path / "whole", asked(source))
    (tmp_path / "script.py").write_text(SCRIPT, "utf-8")
    store = tmp_path / "store"
    command = [sys.executable, tmp_path / "script.py", source, store]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONPATH": paths}
    for shard in (2, 20):
        process = subprocess.Popen(command, env=env)
        until = time.monotonic() + 120
        while not (store / f"rows-{shard:05}.arrow").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.kill()
        assert process.wait() != 0
        assert not (store / FILE).exists()
    subprocess.run(command, env=env, check=True)
    assert content(store) == content(tmp_path / "whole")
