"""What lines of a chat ask for."""

from __future__ import annotations

import os
import re

import pytest

from lightbagel_core.cli.chat_lines import COMMANDS, HELP, Line, file_of, read_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        (" \t\n", None),
        ("make it blue\n", Line("", "make it blue")),
        ("  make / blue", Line("", "make / blue")),
        ("/draw a red circle", Line("draw", "a red circle")),
        ("/EDIT  make it  blue ", Line("edit", "make it  blue")),
        ("/undo\n", Line("undo")),
        ("/seed", Line("seed")),
        ("/seed -3", Line("seed", "-3")),
        ("/save a folder", Line("save", "a folder")),
        ("quit", Line("quit")),
        (" Exit\n", Line("quit")),
        ("/q", Line("quit")),
        ("/EXIT", Line("quit")),
        ("quit the circle", Line("", "quit the circle")),
        ("nowhere.png", Line("", "nowhere.png")),
    ],
)
def test_lines(text, line):
    assert read_line(text) == line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/drow x", "there is no /drow; do you mean /draw?"),
        ("/", "there is no /; /help lists all"),
        ("/xyzzy", "there is no /xyzzy; /help lists all"),
        ("/draw", "/draw needs a prompt after it"),
        ("/edit  ", "/edit needs an instruction after it"),
        ("/ask", "/ask needs a question after it"),
        ("/show", "/show needs the name of a picture's file after it"),
        ("/undo 2", "/undo stands alone; nothing was done"),
        ("/quit now", "/quit stands alone"),
        ("/exit now", "there is no /exit"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_line(text)


def test_help_names_every_command():
    assert {line.split()[0] for line in HELP.splitlines() if line.startswith("  /")} == {
        f"/{name}" for name in COMMANDS
    }


def test_the_name_of_a_picture_alone_is_no_prompt(tmp_path, monkeypatch):
    """As when its file is dragged into the terminal."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my cat.PNG"
    file.touch()
    escaped = str(file).replace(" ", r"\ ")
    for text in (str(file), f"'{file}'", f'"{file}"', "my cat.PNG", *([] if os.name == "nt" else [escaped])):
        with pytest.raises(ValueError, match="^" + re.escape("that is the name of a picture's file alone")) as found:
            read_line(text)
        assert str(found.value).endswith(f"; to bring it in: /show {text}")
        assert file_of(text).samefile(file)


@pytest.mark.skipif(os.name == "nt", reason="a backslash is no letter of a name there")
def test_a_backslash_in_a_name_that_is_there_stays(tmp_path):
    for name in (r"a\ b", "a b"):
        (tmp_path / name).touch()
    assert file_of(rf"{tmp_path}/a\ b").name == r"a\ b"
    assert file_of(rf"{tmp_path}/c\ d").name == r"c\ d"


def test_names_begin_where_people_say(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert file_of("~/a") == file_of('"~/a"') == tmp_path / "a"
    assert file_of("~nobody-of-that-name/a").name == "a"
