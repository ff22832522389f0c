"""Values that are more than a number or a word."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from lightbagel_core.cli.argument_types import gigabytes, interval, prices, size


def test_what_is_meant():
    assert size("1024x768") == (1024, 768)
    assert size("96") == (96, 96)
    assert interval("0.7,1") == (0.7, 1.0)
    assert prices("2,8") == (2.0, 8.0)
    assert gigabytes("0.5") == 5e8


@pytest.mark.parametrize(
    ("kind", "text"), [(size, "x64"), (interval, "0.5"), (prices, "cheap"), (gigabytes, "0"), (gigabytes, "inf")]
)
def test_what_makes_no_sense_is_refused_with_an_example(kind, text):
    with pytest.raises(ArgumentTypeError, match=f"not {text!r}"):
        kind(text)
