"""What a person is told of an error that ended something."""

from __future__ import annotations

from .console import shown


def in_words(error: Exception) -> str:
    """An error as one line that says what is wrong and what to do; raises it again where it is a fault of the program.

    Args:
        error: one that is being handled.
    """
    message = str(error)
    if isinstance(error, MemoryError | RuntimeError):
        from torch._dynamo.exc import TorchDynamoException

        if isinstance(error, TorchDynamoException):
            reason = message.split("\n\n")[0]  # what follows is for programmers
            message = f"compiling does not work here ({reason}); leave out --compile"
        elif isinstance(error, MemoryError) or "memory" in message:
            message = "not enough memory; try --offload parts (or layers), --dtype float8, or fewer or smaller pictures"
        else:
            raise error
    return shown(" ".join(message.split()))
