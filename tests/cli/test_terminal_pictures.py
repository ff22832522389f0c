"""Pictures on terminals: which can show them, and what they are sent, read back as their makers describe it."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from lightbagel_core.cli.terminal_pictures import CHUNK, as_shown, protocol


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "screen", "LC_TERMINAL": "iTerm2"}, None),
        ({"TMUX": "/tmp/x", "KITTY_WINDOW_ID": "1"}, None),
    ],
)
def test_which_terminals_show_pictures(environment, found):
    assert protocol(Terminal(), environment) == found
    assert protocol(io.StringIO(), environment) is None  # a pipe or a file


NOISE = Image.effect_noise((900, 450), 80).convert("RGB")


def test_kitty():
    text = as_shown(NOISE, "kitty")
    parts = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", text)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in parts) + "\n" == text
    assert [keys for keys, _ in parts] == ["a=T,f=100,q=2,m=1", *["m=1"] * (len(parts) - 2), "m=0"]
    assert all(len(data) <= CHUNK for _, data in parts)
    with Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in parts)))) as image:
        assert (image.format, image.size) == ("PNG", (640, 320))
    assert re.findall("\x1b_G([^;]*);", as_shown(Image.new("RGB", (8, 8)), "kitty")) == ["a=T,f=100,q=2,m=0"]


def test_iterm2():
    text = as_shown(Image.new("RGB", (8, 6)), "iterm2")
    ((size, data),) = re.findall("^\x1b]1337;File=inline=1;size=([0-9]+);preserveAspectRatio=1:(.+)\a\n$", text)
    content = base64.b64decode(data)
    assert len(content) == int(size)
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (8, 6)
