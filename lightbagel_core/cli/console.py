"""What is printed arrives, whatever the console can show; an answer while it is made, where a person looks on."""

from __future__ import annotations

import sys
import unicodedata
from io import TextIOWrapper
from typing import Self, TextIO

REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # Unicode's names of U+202A and its like


def survive_any_console() -> None:
    """Lets characters that the console has no code for come out as question marks, instead of ending the program.

    Windows' consoles and pipes often know 256 characters only; an answer, or a file's name, may hold any.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def shown(text: str) -> str:
    """A text of a model or a stranger without characters that a terminal would obey: those that move its cursor, and
    those that show what follows in another order than it has. Marks that letters and emoji are joined by stay.
    """
    return "".join(char for char in text if char in "\n\t" or not _obeyed(char))


def _obeyed(char: str) -> bool:
    return unicodedata.category(char) == "Cc" or unicodedata.bidirectional(char) in REORDERING


class AsMade:
    """Prints a text while it is made if a stream is a terminal, and nothing if not; to be used in a `with`.

    Called with all words so far, as `on_text` is; `text` has them. The line is ended also where something goes wrong.
    """

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        self.stream, self.text, self.printed = stream, "", ""
        self.live = stream.isatty() and not quiet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def __call__(self, text: str) -> None:
        self.text = text
        if not self.live:
            return
        if not text.startswith(self.printed):  # then it is told anew, in a line of its own
            self.end()
        print(shown(text[len(self.printed) :]), end="", file=self.stream, flush=True)
        self.printed = text

    def end(self) -> None:
        """Ends the line, if one was begun."""
        if self.printed:
            print(file=self.stream, flush=True)
        self.printed = ""
