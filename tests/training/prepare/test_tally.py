"""What is counted, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path

from prepared_rows import stored

from lightbagel_core.training.data.store import Manifest, Shard
from lightbagel_core.training.prepare import tally as module
from lightbagel_core.training.prepare.rows import LeftOut
from lightbagel_core.training.prepare.tally import Tally, report


def counted() -> Tally:
    tally = Tally(doubles=2)
    for number in range(5):
        tally.kept(stored(number, repeats=2))
    for number in range(4):
        tally.lost(LeftOut(f"row {number}", f"a target is {number}x1, smaller than 8 pixels"))
    tally.lost(LeftOut("row 9", "its text is empty"))
    tally.pictures.update({"encoded anew": 3, "scaled down": 0})
    return tally


def test_a_tally_survives_a_kill():
    tally = counted()
    assert Tally.of(json.loads(json.dumps(vars(tally)))) == tally
    assert (tally.rows, tally.examples, tally.left_out, tally.doubles) == (5, 10, 5, 2)


def test_reasons_are_put_together_however_they_are_numbered(monkeypatch):
    tally = counted()
    assert {reason: count for reason, (count, _) in tally.reasons.items()} == {
        "a target is NxN, smaller than N pixels": 4,
        "its text is empty": 1,
    }
    monkeypatch.setattr(module, "KINDS", 3)
    for letter in "abcdef":
        tally.lost(LeftOut(letter, f"{letter} is wrong"))
    assert len(tally.reasons) == 4
    assert tally.reasons[module.OTHER][0] == 5


def test_the_report_tells_what_was_kept_and_why_the_rest_was_not():
    tally = counted()
    about = tally.about("mine", "folder", "", "", "stamp", 0)
    old = Tally(rows=1, examples=1).about("old", "omniedit", "the web", "mit", "", 0)
    shards = (Shard("rows-00000.arrow", 0, 1, 10**9, "", ((1, 1),)), Shard("rows-00001.arrow", 1, 5, 9, "", ((5, 2),)))
    lines = report(Path("store"), Manifest((old, about), shards), [tally]).splitlines()
    assert lines == [
        "store: 6 rows, 11 with their repeats, 1.0 GB in 2 files",
        "old: 1 rows, 0 doubles, 0 left out",
        "  layout omniedit, source the web, licence mit",
        "mine: 5 rows, 2 doubles, 5 left out",
        "  layout folder, source unknown, licence unknown",
        f"  targets as the 5B model sizes them: {lines[5].partition(': ')[2]}",
        "  pictures: 3 encoded anew",
        "  left out 4: a target is NxN, smaller than N pixels (row 0; row 1; row 2; …)",
        "  left out 1: its text is empty (row 9)",
        "  store/left_out.jsonl lists each of them",
    ]
    assert sum(count for _, _, count in about.sizes) == 5
    assert all(max(width, height) <= 1024 and width % 32 == height % 32 == 0 for width, height, _ in about.sizes)
