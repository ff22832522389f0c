"""Names of files: what Windows would take for a path, a drive, a stream or a device is none."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest
from tiny import make_tiny

from lightbagel_core.files import file_names
from lightbagel_core.files.download import download
from lightbagel_core.files.file_names import check_new, is_plain

PLAIN = [
    "a.safetensors",
    "ema-00001-of-00002.safetensors",
    ".hidden",
    "console.png",
    "nulls",
    "com10",
    "猫.png",
    "a(1)",
]
OTHERS = [
    "",
    ".",
    "..",
    "../a",
    "a/b",
    "a\\b",
    "C:a",
    "C:\\a",
    "a.png:stream",
    "a?",
    "a*",
    "a|b",
    '"a"',
    "<a>",
    "a.",
    "a ",
]
OTHERS += ["a\x00", "a\n", "con", "CON", "nul.png", "Aux.safetensors", "com1", "LPT9.json", "con .png", "COM¹"]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names(name):
    assert is_plain(name)


@pytest.mark.parametrize("name", OTHERS)
def test_others(name):
    assert not is_plain(name)


def test_what_is_made_on_windows_needs_a_plain_name(tmp_path, monkeypatch):
    check_new(Path("what?.png"))  # fine elsewhere
    monkeypatch.setattr(file_names, "WINDOWS", True)
    check_new(PureWindowsPath("C:/pictures/cat.png"))
    for path in ("C:/pictures/nul.png", "C:/pictures/cat.png:2", "cat."):
        with pytest.raises(ValueError, match="cannot be the name of a file on Windows; choose another one"):
            check_new(PureWindowsPath(path))
    with pytest.raises(ValueError, match=r"'aux' cannot be"):
        make_tiny().save_pretrained(tmp_path / "aux")
    with pytest.raises(ValueError, match=r"'con\.json' cannot be"):
        download(["someone/a-repo:con.json"], tmp_path)
