"""Rows as layouts give them."""

from __future__ import annotations

from pathlib import Path

from lightbagel_core.training.prepare.rows import Picture


def test_a_picture_is_read_from_its_file_or_is_the_bytes_it_came_with(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(b"1")
    assert Picture("a b.png", file=tmp_path / "a b.png").read() == b"1"
    assert Picture("row 3", content=b"2").read() == b"2"
