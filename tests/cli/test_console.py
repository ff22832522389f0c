"""The command line on consoles that cannot show every character, and on those where a person looks on."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from lightbagel_core.cli.console import AsMade, shown

ROOT = Path(__file__).parents[2]
CODE = r"""
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module="lightbagel_core")
from lightbagel_core.cli import commands
if len(sys.argv) == 1:
    commands.COMMANDS["info"] = lambda args: print("a cat, \u732b \u2026")  # as an answer may be
    sys.argv.append("info")
sys.exit(commands.main(sys.argv[1:]))
"""


def run(encoding: str, *words: str | Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-X", "warn_default_encoding", "-c", CODE, *map(str, words)]
    return subprocess.run(command, capture_output=True, env=environment)


def test_an_answer_in_any_language_is_printed():
    assert run("utf-8").stdout.decode("utf-8").split() == ["a", "cat,", "猫", "…"]
    assert run("cp1252").stdout.decode("cp1252").split() == ["a", "cat,", "?", "…"]
    assert run("ascii").stdout.split() == [b"a", b"cat,", b"?", b"?"]


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_help_comes_everywhere(encoding):
    for words in ([], ["generate"], ["edit"], ["describe"], ["chat"], ["info"], ["convert"], ["download"]):
        done = run(encoding, *words, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(b"usage: lightbagel")


@pytest.mark.slow
def test_commands_with_bars_and_names_of_any_script(tmp_path):
    encoding = "cp1252"
    folder = tmp_path / "模型 Käse"
    done = run(encoding, "convert", folder)
    assert (done.returncode, b"Traceback" in done.stderr, folder.is_dir()) == (0, False, True)
    assert b"100%" in done.stderr
    assert run(encoding, "info", "--model", folder).returncode == 0
    picture = folder / "Käse 猫.png"
    drawn = run(encoding, "generate", "a red circle", "-o", picture, "--size", "64", "--steps", "1")
    assert (drawn.returncode, b"Traceback" in drawn.stderr, picture.is_file()) == (0, False, True)
    assert run(encoding, "describe", picture, "--max-new-tokens", "4").returncode == 0
    missing = run(encoding, "describe", folder / "犬.png")
    assert missing.returncode == 2
    assert b"there is no image file" in missing.stderr


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_text_is_printed_as_it_grows():
    screen = Terminal()
    with AsMade(screen) as told:
        for text in ("a", "a red", "a red", "a red circle"):
            told(text)
        assert screen.getvalue() == "a red circle"
    assert screen.getvalue() == "a red circle\n"


def test_a_text_that_is_told_anew_gets_a_line_of_its_own():
    screen = Terminal()
    with AsMade(screen) as told:
        told("a red")
        told("the blue")
    assert screen.getvalue() == "a red\nthe blue\n"


@pytest.mark.parametrize(("screen", "quiet"), [(StringIO(), False), (Terminal(), True)])
def test_where_nobody_looks_on_nothing_is_printed_in_between(screen, quiet):
    with AsMade(screen, quiet) as told:
        told("a red circle")
    assert (screen.getvalue(), told.text, told.live) == ("", "a red circle", False)


def test_a_line_that_was_begun_is_ended_where_something_goes_wrong():
    screen = Terminal()

    def interrupted() -> None:
        with AsMade(screen) as told:
            told("a red")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert screen.getvalue() == "a red\n"


def test_a_text_is_shown_in_the_order_that_it_has():
    """What turns it around, as in a file's name that seems to end in .png, goes; marks that join letters stay."""
    turning = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
    assert shown("".join(["evil", *map(chr, turning), "gnp.exe"])) == "evilgnp.exe"
    family, persian = "\U0001f468\u200d\U0001f469", "\u0645\u06cc\u200c\u062e"
    assert shown(family + persian) == family + persian


def test_a_models_text_does_not_move_the_cursor():
    assert shown("a\x1b[2Jb\x07\x9bc\r\n\td 猫…") == "a[2Jbc\n\td 猫…"
    screen = Terminal()
    with AsMade(screen) as told:
        told("a\x1b")
        told("a\x1b[2J b")
    assert screen.getvalue() == "a[2J b\n"
