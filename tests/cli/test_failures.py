"""What a person is told of errors."""

from __future__ import annotations

import pytest
from torch._dynamo.exc import TorchDynamoException

from lightbagel_core.cli.failures import in_words, of_people, of_the_program


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("one\n  line"), "one line"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("no \x1b[2J\x9b1m\u202efile"), "no [2J1mfile"),
        (ValueError(), "ValueError"),
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


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, KeyError])
def test_a_fault_of_the_program_says_where_it_lies(kind):
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise kind("shapes\n\x1b[2Jdiffer")

    with pytest.raises(kind) as found:
        deep(50)
    assert of_people(found.value) is None
    *places, last = of_the_program(found.value).splitlines()
    assert last.startswith(f"lightbagel: this is a fault of lightbagel's: {kind.__name__}: ")
    assert "\x1b" not in last
    assert 0 < len([line for line in places if "test_failures.py" in line]) <= 4
