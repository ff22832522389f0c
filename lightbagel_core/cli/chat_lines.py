"""What a line of a chat asks for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

HELP = """\
  words              edit the last picture as they say; draw them where there is no picture yet
  /draw PROMPT       draw a picture of a prompt alone
  /edit WORDS        edit the pictures shown since the last drawing, else the last picture
  /ask QUESTION      ask about the pictures so far
  /show FILE         bring in a picture
  /undo              go back to before the last drawing, answer or shown picture
  /seed [N]          the seed of what is drawn from now on; without N another one
  /save [FOLDER]     write the conversation: a page to look at, and what --open goes on with
  /help              this
  /quit              leave; so do quit or exit alone, /q, /exit and the end of the input
Ctrl-C stops a drawing or an answer."""

# Each command, and whether words must (True), may (None) or must not (False) follow it.
COMMANDS: dict[str, bool | None] = {
    "draw": True,
    "edit": True,
    "ask": True,
    "show": True,
    "undo": False,
    "seed": None,
    "save": None,
    "help": False,
    "quit": False,
}
LEAVING = {"quit", "exit", "/q", "/exit"}  # other words for /quit, alone in a line
PICTURES = {".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
NEEDS = {"draw": "a prompt", "edit": "an instruction", "ask": "a question", "show": "the name of a picture's file"}


@dataclass(frozen=True)
class Line:
    """A command, "" where the line is words alone, and what follows it."""

    command: str
    words: str = ""


def read_line(text: str) -> Line | None:
    """What a line asks for; None of an empty one.

    Raises:
        ValueError: there is no such command, it lacks something, or there is something more; or it is the name of a
            picture's file alone.
    """
    text = text.strip()
    if not text:
        return None
    if text.lower() in LEAVING:
        return Line("quit")
    if file_of(text).suffix.lower() in PICTURES and os.path.isfile(file_of(text)):
        raise ValueError(f"that is the name of a picture's file alone; to bring it in: /show {text}")
    if not text.startswith("/"):
        return Line("", text)
    command, _, words = text[1:].partition(" ")
    command, words = command.lower(), words.strip()
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, 1)
        raise ValueError(f"there is no /{command}" + (f"; do you mean /{near[0]}?" if near else "; /help lists all"))
    if COMMANDS[command] is True and not words:
        raise ValueError(f"/{command} needs {NEEDS[command]} after it")
    if COMMANDS[command] is False and words:
        raise ValueError(f"/{command} stands alone; nothing was done")
    return Line(command, words)


def file_of(words: str) -> Path:
    """The file or folder that words name as people write them, or terminals where one is dragged there: in quotation
    marks, with ~ for their own folder, and with a backslash before a space.
    """
    if len(words) > 1 and words[0] == words[-1] and words[0] in "\"'":
        words = words[1:-1]
    path = Path(os.path.expanduser(words))  # Path's own raises where nobody has that name
    plain = Path(os.path.expanduser(re.sub(r"\\(.)", r"\1", words)))
    return plain if os.name != "nt" and not os.path.lexists(path) and os.path.lexists(plain) else path
