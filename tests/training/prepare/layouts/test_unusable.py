"""Texts of people's, and what is said of those that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbagel_core.training.prepare.layouts.unusable import (
    LONGEST,
    Unusable,
    damage,
    damaged,
    key_of,
    printable,
    shown,
    text_file,
    words,
)
from lightbagel_core.training.prepare.rows import LeftOut, Unit


@pytest.mark.parametrize("value", ["füge hinzu", " füge hinzu\n", "füge hinzu".encode(), "\ufefffüge hinzu".encode()])
def test_a_text_is_a_text_or_its_bytes(value):
    assert words(value, "prompt") == "füge hinzu"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "prompt is missing"),
        ("", "prompt is empty"),
        (" \n", "prompt is empty"),
        ("füge".encode("latin-1"), "prompt is not UTF-8"),
        ("\udcfc", "prompt is not UTF-8"),
        (7, "prompt is no text but a number"),
        (["a"], "prompt is no text but a list"),
        ("a" * (LONGEST + 1), f"prompt has {LONGEST + 1} bytes"),
    ],
)
def test_what_is_no_text_is_said(value, why):
    with pytest.raises(Unusable, match=why):
        words(value, "prompt")


def test_texts_in_files(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa cat\r\n")
    assert text_file(tmp_path / "a.txt") == "a cat"
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "log.txt").write_bytes(b"x" * 10 * LONGEST)
    (tmp_path / "folder.txt").mkdir()
    for name, why in {
        "b.txt": "b.txt is not UTF-8",
        "c.txt": "there is no c.txt",
        "log.txt": "log.txt has",
        "folder.txt": "folder.txt cannot be read",
    }.items():
        with pytest.raises(Unusable, match=why):
            text_file(tmp_path / name)


def test_keys_lie_below_the_source_and_can_be_written():
    assert key_of(Path("/a"), Path("/a/b/c d.png")) == "b/c d.png"
    assert key_of(Path("/a"), Path("/b/c.png")) == "/b/c.png"
    assert printable("caf\udce9") == "caf\\udce9"
    assert len(shown("x" * 1000)) < 100
    assert "\n" not in shown("a\nb")


def test_a_damaged_file_is_a_unit_of_its_own():
    root = Path("/a")
    assert damage(root, damaged(root / "b.tar", "it is empty")) == LeftOut("b.tar", "it is empty")
    assert damage(root, Unit(root / "b.tar", 0, 3, ("0",))) is None
