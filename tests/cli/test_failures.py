"""What a person is told of errors."""

from __future__ import annotations

import pytest
from torch._dynamo.exc import TorchDynamoException

from lightbagel_core.cli.failures import in_words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("one\n  line"), "one line"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("no \x1b[2J\x9b1m\u202efile"), "no [2J1mfile"),
        (MemoryError(), "not enough memory; try --offload parts"),
        (RuntimeError("CUDA out of memory"), "not enough memory; try --offload parts"),
        (
            TorchDynamoException("no compiler\n\nfor programmers"),
            "compiling does not work here (no compiler); leave out",
        ),
    ],
)
def test_in_words(error, words):
    assert in_words(error).startswith(words)


def test_a_fault_of_the_program_is_not_hidden():
    with pytest.raises(RuntimeError, match="shapes differ"):
        in_words(RuntimeError("shapes differ"))
