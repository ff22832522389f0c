"""Lines as they come: from a script, at a terminal with and without prompt_toolkit."""

from __future__ import annotations

import builtins
import io
import sys
import types

import pytest

from lightbagel_core.cli import line_input
from lightbagel_core.cli.line_input import line_reader


def terminal(monkeypatch) -> None:
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)


def test_piped_lines_come_without_a_prompt_until_they_end(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\nt\xffo\n\nthree"), "utf-8"))
    read = line_reader(["draw"])
    assert [read() for _ in range(4)] == ["one\n", "t�o\n", "\n", "three"]
    with pytest.raises(EOFError):
        read()
    assert capsys.readouterr().out == ""


def test_without_prompt_toolkit_a_terminal_has_plain_lines(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    monkeypatch.setattr(builtins, "input", lambda prompt: f"asked with {prompt}")
    assert line_reader(["draw"])() == "asked with > "


def test_with_prompt_toolkit_commands_are_completed(monkeypatch):
    made = []

    class Session:
        def __init__(self, prompt, completer, complete_while_typing):
            made.append((prompt, completer))

        def prompt(self):
            return "typed"

    toolkit, completion = types.ModuleType("prompt_toolkit"), types.ModuleType("prompt_toolkit.completion")
    toolkit.PromptSession, completion.WordCompleter = Session, lambda words, sentence: words
    monkeypatch.setitem(sys.modules, "prompt_toolkit", toolkit)
    monkeypatch.setitem(sys.modules, "prompt_toolkit.completion", completion)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    terminal(monkeypatch)
    assert line_reader(["draw", "undo"])() == "typed"
    assert made == [(line_input.PROMPT, ["/draw", "/undo"])]


def test_the_real_prompt_toolkit(monkeypatch):
    """Its own pipe stands for a terminal."""
    pytest.importorskip("prompt_toolkit")
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    terminal(monkeypatch)
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        read = line_reader(["draw"])
        pipe.send_text("a red circle\n")
        assert read() == "a red circle"
        pipe.send_text("\x03")
        with pytest.raises(KeyboardInterrupt):
            read()
        pipe.send_text("\x04")
        with pytest.raises(EOFError):
            read()
