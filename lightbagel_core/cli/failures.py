"""What a person is told of an error that ended something."""

from __future__ import annotations

import traceback

from .console import shown

FRAMES, LONGEST = 4, 300  # the last places of a fault that are told; characters of what it says


def in_words(error: Exception) -> str:
    """An error as one line that says what is wrong and what to do; raises it again where it is a fault of the program.

    Args:
        error: one that is being handled.
    """
    found = of_people(error)
    if found is None:
        raise error
    return found


def of_people(error: Exception) -> str | None:
    """An error as one line that says what is wrong and what to do; None where it is a fault of the program."""
    if not isinstance(error, ValueError | OSError | MemoryError | RuntimeError):
        return None
    message = str(error)
    if isinstance(error, MemoryError | RuntimeError):
        from torch._dynamo.exc import TorchDynamoException

        if isinstance(error, TorchDynamoException):
            reason = message.split("\n\n")[0]  # what follows is for programmers
            message = f"compiling does not work here ({reason}); leave out --compile"
        elif isinstance(error, MemoryError) or "memory" in message:
            message = "not enough memory; try --offload parts (or layers), --dtype float8, or fewer or smaller pictures"
        else:
            return None
    return shown(" ".join(message.split())) or type(error).__name__


def of_the_program(error: Exception) -> str:
    """A fault of the program, for whom it is to be told to: the places in it that led there, then one line."""
    places = "".join(traceback.format_tb(error.__traceback__)[-FRAMES:])
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return shown(f"{places}lightbagel: this is a fault of lightbagel's: {what[:LONGEST]}")
