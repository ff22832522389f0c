"""What is hard to break: short versions of the soak and of the fuzz, which `make soak` runs at length."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest
import soak
from conftest import comfyui
from serving import serve


def test_runs_in_a_row(tmp_path: Path):
    """All workflows, then some of them cancelled and unloaded: no error, no growth, and nothing in the log of one."""
    with serve(comfyui(), tmp_path / "base", "--cache-classic") as server:
        seen = soak.soak(server, 32, seed=2)
        log, errors = server.log_text(), server.tracebacks()
    assert seen.wrong == []
    assert set(seen.ends) <= {"success", "interrupted"}
    assert seen.grown(len(soak.WORKFLOWS)) == []
    assert errors == []
    assert "memory leak" not in log


def test_random_graphs(tmp_path: Path):
    with fuzz.fuzzed(tmp_path / "base") as server:
        seen = fuzz.fuzz(server, 60, seed=3)
        assert server.alive()
    assert list(seen.wrong) == []
    assert seen.worst > 90
    assert min(seen.ends["success"], seen.ends["refused before it ran"], seen.ends["failed in words of ours"]) > 2


def test_growth_is_seen():
    seen = soak.Soak()
    for i in range(30):
        seen.memory.append({"VmRSS": 1000.0 + 3 * i, "RssAnon": 600.0})
        seen.files.append(100 + i)
    assert [text.split(" grew")[0] for text in seen.grown(3)] == ["VmRSS", "open files"]


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("ValueError", "the vae input needs a Wan2.2 VAE; the one connected has 3", None),
        ("ValueError", "guidance_from must be larger than guidance_to", None),
        ("ValueError", "there is something wrong here, please look", "names no input"),
        ("ValueError", "the vae input: list index out of range", "Python's own words: index out of range"),
        ("ValueError", "vae wrong", "no sentence"),
        ("KeyError", "the vae input needs a Wan2.2 VAE", "a KeyError"),
    ],
)
def test_words_are_judged(kind: str, text: str, why: str | None):
    error = {"exception_type": kind, "exception_message": text, "node_type": "LightBagelGenerate"}
    assert fuzz.judged(error, {"vae": ["1", 2], "guidance_from": 1.0}) == why
