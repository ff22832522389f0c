"""Values of options that are more than a number or a word."""

from __future__ import annotations

import argparse


def size(text: str) -> tuple[int, int]:
    """A size in pixels: 1024x768, or 1024 for a square."""
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT in pixels, such as 1024x768, not {text!r}") from None


def _pair(text: str, what: str) -> tuple[float, float]:
    first, _, second = text.partition(",")
    try:
        return float(first), float(second)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{what}, not {text!r}") from None


def interval(text: str) -> tuple[float, float]:
    """Two ends of an interval of flow times: 0.7,1."""
    return _pair(text, "an interval is LO,HI between 0 and 1, such as 0.7,1")


def prices(text: str) -> tuple[float, float]:
    """What a million tokens cost, those sent and those answered: 2,8."""
    return _pair(text, "prices are IN,OUT for a million tokens each, such as 2,8")


def gigabytes(text: str) -> float:
    """Bytes of a number of gigabytes above 0."""
    try:
        found = float(text) * 1e9
    except ValueError:
        found = 0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"a size is a number of gigabytes above 0, not {text!r}")
    return found
