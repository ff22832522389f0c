"""The first row of every stock node in docs/sweep.md, against the classes that are committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweep import run
from sweep.expect import GOOD, NO_EXPECTATION, RANK, UNCHECKED, Worlds

HERE = Path(__file__).resolve().parent / "sweep"
KNOWN = json.loads((HERE / "expected.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def worlds(host) -> Worlds:
    return run.worlds(host)


def first() -> list:
    return list({row.node: row for row in reversed(run.STATED)}.values())[::-1]


@pytest.mark.parametrize("row", first(), ids=lambda row: row.name)
def test_no_row_is_worse(host, worlds, row):
    """Than when docs/sweep.md was written. A row that is better: run `make sweep` and commit what it writes."""
    if row.node not in host.mappings:
        pytest.skip("this ComfyUI has no such node")
    if row.differs(host):
        pytest.skip("stated of a newer ComfyUI, whose node takes other inputs")
    found, note = row.expected.judge(row, worlds)
    known = KNOWN[row.name]["class"]
    if run.version() != KNOWN[""]["comfyui"] and found in GOOD:
        return  # an older host's node may give what is another model's
    assert RANK[found] <= RANK[known], f"expected: {row.expected.words}; it was: {known}; now: {found}: {note}"


def test_every_stock_node_has_an_expectation(host):
    if run.version() != KNOWN[""]["comfyui"]:
        pytest.skip(f"the table is for ComfyUI {KNOWN['']['comfyui']}")
    assert not [row.node for row in run.rows(host, whole=False) if row.expected is NO_EXPECTATION]


def test_hardly_a_row_is_unchecked_and_none_is_bad_without_a_reason():
    """At most one in twenty merely ends; what crashes or is silently wrong has an exception in words."""
    rows = {name: one for name, one in KNOWN.items() if name}
    assert sum(one["class"] == UNCHECKED for one in rows.values()) <= len(rows) / 20
    assert not [name for name, one in rows.items() if one["class"] not in GOOD and not one.get("exception")]
    assert {row.name for row in first()} <= rows.keys() <= {row.name for row in run.STATED}
