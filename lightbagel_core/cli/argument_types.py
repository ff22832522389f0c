"""Values of options that are more than a number or a word."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any


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
    what = "prices are IN,OUT for a million tokens each, 0 or above, such as 2,8"
    both = _pair(text, what)
    if not all(isfinite(price) and price >= 0 for price in both):
        raise argparse.ArgumentTypeError(f"{what}, not {text!r}")
    return both


def lora(text: str) -> tuple[Path, float]:
    """A file, and the strength that may stand behind it: style.safetensors=0.8; 1 where none does.

    What is the name of a file as a whole is that file, also with a = in it.
    """
    name, equals, said = text.rpartition("=")
    if not equals or os.path.exists(text):  # which takes any text for a name, as Path.exists does not
        return Path(text), 1.0
    try:
        strength = float(said)
    except ValueError:
        strength = float("nan")
    if not name or not isfinite(strength):
        raise argparse.ArgumentTypeError(
            f"it is FILE or FILE=STRENGTH, such as style.safetensors=0.8, not {text!r}: there is no file of that name, "
            f"and {said!r} is no strength"
        )
    return Path(name), strength


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise argparse.ArgumentTypeError(f"it is a whole number from 1 on, not {text!r}")
    return int(text)


def or_none(kind: Callable[[str], float]) -> Callable[[str], float | None]:
    """A type of option that also takes the word none."""

    def read(text: str) -> float | None:
        try:
            found = None if text.lower() == "none" else kind(text)
        except (ValueError, argparse.ArgumentTypeError):
            found = -1
        if found is not None and not (isfinite(found) and found >= 0):
            least = "a whole number from 1 on" if kind is count else "a number from 0 on"
            raise argparse.ArgumentTypeError(f"it is {least}, or none, not {text!r}")
        return found

    return read


def json_object(text: str) -> dict[str, Any]:
    """An object of JSON: {"seed": 1}."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'it is an object of JSON such as {{"seed": 1}}, not {text!r}')
    return found


def gigabytes(text: str) -> float:
    """Bytes of a number of gigabytes above 0."""
    try:
        found = float(text) * 1e9
    except ValueError:
        found = 0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"a size is a number of gigabytes above 0, not {text!r}")
    return found
