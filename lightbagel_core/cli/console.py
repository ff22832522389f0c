"""What is printed arrives, whatever the console can show."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def survive_any_console() -> None:
    """Lets characters that the console has no code for come out as question marks, instead of ending the program.

    Windows' consoles and pipes often know 256 characters only; an answer, or a file's name, may hold any.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
