"""What lines of a chat ask for."""

from __future__ import annotations

import re

import pytest

from lightbagel_core.cli.chat_lines import COMMANDS, HELP, Line, read_line


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
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_line(text)


def test_help_names_every_command():
    assert {line.split()[0] for line in HELP.splitlines() if line.startswith("  /")} == {
        f"/{name}" for name in COMMANDS
    }
