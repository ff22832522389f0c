"""Shares and interruptions make no difference to a picture."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path, PurePosixPath

import forked
import pytest
from filelock import FileLock

from lightbagel_core.evaluation.drawing.presets import Drawing
from lightbagel_core.evaluation.drawing.run_file import SCRATCH
from lightbagel_core.evaluation.drawing.shares import Share
from lightbagel_core.evaluation.drawing.split import batches, draw_bench
from lightbagel_core.evaluation.items import Item

PROMPTS = ("a red circle", "a blue star on a black background", "a cat", "a green square left of a red star")
DRAWING = Drawing(samples=2, batch=4, asked={"steps": 2})


def items(count: int = 8) -> list[Item]:
    def one(i: int) -> Item:
        files = tuple(PurePosixPath(f"{i:05}", "samples", f"{sample:04}.png") for sample in range(2))
        return Item(f"{i:05}", "tag", (PROMPTS[i % len(PROMPTS)],), (files,))

    return [one(i) for i in range(count)]


def contents(out: Path) -> dict[str, str]:
    """The checksums of all files but those of the runs themselves."""
    return {
        file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in out.rglob("*")
        if file.is_file() and SCRATCH not in file.parts and file.name != "run.json"
    }


def test_a_batch_holds_all_samples_of_its_items():
    assert [len(batch) for batch in batches(items(5), DRAWING)] == [2, 2, 1]
    assert [len(batch) for batch in batches(items(3), Drawing(samples=4, batch=1))] == [1, 1, 1]


def test_four_shares_are_one_run(nano, tmp_path, threads):
    """To the bit: each batch is the same computation, whoever does it."""
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    report = draw_bench(nano, "bench", items(), whole, DRAWING, progress=False)
    parts = [draw_bench(nano, "bench", items(), shared, DRAWING, Share(r, 4), progress=False) for r in (2, 0, 3, 1)]
    assert contents(whole) == contents(shared)
    assert report.drawn == sum(part.drawn for part in parts) == 12
    assert set(report.missing) == {"00002", "00006"}


def test_what_is_there_is_not_drawn_again(nano, tmp_path, monkeypatch):
    draw_bench(nano, "bench", items(4), tmp_path, DRAWING, progress=False)
    calls = []
    monkeypatch.setattr(type(nano), "draw", lambda self, *args, **kwargs: calls.append(args))
    report = draw_bench(nano, "bench", items(4), tmp_path, DRAWING, progress=False)
    assert calls == []
    assert (report.drawn, report.there) == (0, 6)
    assert set(report.missing) == {"00002"}  # said again


def test_the_leftovers_of_a_killed_process_go(nano, tmp_path):
    scratch = tmp_path / SCRATCH / "0-of-1"
    scratch.mkdir(parents=True)
    (scratch / "half").write_bytes(b"half a picture")
    draw_bench(nano, "bench", items(1), tmp_path, DRAWING, progress=False)
    assert not (scratch / "half").exists()


def test_two_processes_with_one_share_are_refused(nano, tmp_path):
    (tmp_path / SCRATCH).mkdir()
    with (
        FileLock(tmp_path / SCRATCH / "1-of-2.lock"),
        pytest.raises(ValueError, match=r"another process is drawing share 1 of 2 .* its own RANK"),
    ):
        draw_bench(nano, "bench", items(1), tmp_path, DRAWING, Share(1, 2), progress=False)


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(nano, tmp_path, monkeypatch):
    fsync, written = os.fsync, []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"could not write .*\.png: No space left on device"):
        draw_bench(nano, "bench", items(4), tmp_path / "a", DRAWING, progress=False)
    draw_bench(nano, "bench", items(4), tmp_path / "a", DRAWING, progress=False)
    draw_bench(nano, "bench", items(4), tmp_path / "b", DRAWING, progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


KILLED = """
import sys
from pathlib import Path
from test_split import DRAWING, draw_bench, items
from lightbagel_core.pipeline import LightBagel
draw_bench(LightBagel.from_pretrained("nano", "cpu"), "bench", items(40), Path(sys.argv[1]), DRAWING, progress=False)
"""


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_is_the_same(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with forked.parent("import test_split, lightbagel_core.pipeline", environment) as parent:

        def start(out: Path) -> forked.Child:
            return parent.start(KILLED, [str(out)], environment)

        ended = start(tmp_path / "whole").wait()
        assert ended.returncode == 0, ended.stderr
        wanted, kills = contents(tmp_path / "whole"), 0
        for _ in range(60):
            process = start(tmp_path / "killed")
            there = len(contents(tmp_path / "killed"))
            while process.alive() and len(contents(tmp_path / "killed")) < there + 7:
                time.sleep(0.01)
            if process.alive():
                process.kill()
            ended = process.wait()
            assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
            kills += ended.returncode != 0
            found = contents(tmp_path / "killed")
            assert found.items() <= wanted.items()  # at no moment half a file, or another picture
            if found == wanted:
                break
    assert found == wanted
    assert kills > 3
