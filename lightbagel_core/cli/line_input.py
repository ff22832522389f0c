"""Lines that a person types or a script pipes in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Any

PROMPT = "> "
ReadLine = Callable[[], str]  # raises EOFError at the end, KeyboardInterrupt for Ctrl-C


def line_reader(commands: Sequence[str]) -> ReadLine:
    """How the next line is read: on a terminal with prompt_toolkit, where it is installed, which completes commands and
    remembers earlier lines; else as it comes.
    """
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is no text in this encoding is a word the model can refuse
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _plain
    try:
        toolkit: Any = import_module("prompt_toolkit")
        completion: Any = import_module("prompt_toolkit.completion")
    except ImportError:
        return lambda: input(PROMPT)
    completer = completion.WordCompleter([f"/{command}" for command in commands], sentence=True)
    session = toolkit.PromptSession(PROMPT, completer=completer, complete_while_typing=True)
    return lambda: str(session.prompt())


def _plain() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
