"""Pictures on terminals that can show them: those with kitty's or iTerm2's protocol."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal, TextIO

from PIL import Image

from ..files.png import png_bytes

Protocol = Literal["kitty", "iterm2"]
LARGEST = 640  # pixels of a side, so that a picture fits most windows
CHUNK = 4096  # bytes that kitty takes at once


def protocol(stream: TextIO, environment: Mapping[str, str]) -> Protocol | None:
    """How a stream's terminal shows pictures; None where it is none, or is not known to.

    Inside tmux and screen it is None: they pass pictures on only if told to.
    """
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if not stream.isatty() or "TMUX" in environment or term.startswith(("screen", "tmux")):
        return None
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return None


def as_shown(picture: Image.Image, by: Protocol) -> str:
    """What to print so that a terminal shows a picture."""
    small = picture.copy()
    small.thumbnail((LARGEST, LARGEST))
    content = png_bytes(small, {})
    data = base64.b64encode(content).decode()
    if by == "iterm2":
        return f"\x1b]1337;File=inline=1;size={len(content)};preserveAspectRatio=1:{data}\a\n"
    chunks = [data[i : i + CHUNK] for i in range(0, len(data), CHUNK)]
    # a=T: show it, f=100: it is PNG, q=2: answer nothing, which would be read as typed
    heads = ["a=T,f=100,q=2,", *[""] * (len(chunks) - 1)]
    more = [*[1] * (len(chunks) - 1), 0]
    return "".join(f"\x1b_G{h}m={m};{c}\x1b\\" for h, m, c in zip(heads, more, chunks, strict=True)) + "\n"
