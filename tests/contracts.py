"""What the contract tests share: the rows of docs/hosts.md, and one sentence for whatever a library no longer does.

A contract test stands for one row and carries its id, as in `@row("diffusers-09")`. Its docstring says what must hold.
Whatever goes wrong in it, an import included, ends in a sentence that names the library, its version and the thing.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOSTS = ROOT / "docs" / "hosts.md"
_ROW = re.compile(r"^\| ([a-z_]+-\d\d) \| (.+?) \| (.+?) \|", re.MULTILINE)


class Broken(AssertionError):
    """Something that a library no longer has or does; the message is a sentence without its end."""


def rows() -> dict[str, str]:
    """Which of our files lean on each row of docs/hosts.md, by the row's id, in the document's order."""
    return {name: where for name, _, where in _ROW.findall(HOSTS.read_text("utf-8"))}


def installed(library: str) -> str:
    """A library's name and version."""
    try:
        found = importlib.import_module("comfyui_version").__version__ if library == "comfyui" else version(library)
    except ImportError:
        found = "(not installed)"
    return f"{library} {found}"


def row(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a test the contract of one row of docs/hosts.md."""

    def contract(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            try:
                test(*args, **kwargs)
            except Exception as error:  # a library may fail in any way
                claim = " ".join((test.__doc__ or "").split()).rstrip(".")
                broken = isinstance(error, Broken)
                first = next(iter(str(error).splitlines()), "")
                what = str(error) if broken else f'"{claim}" ended in {type(error).__name__}: {first}'
            else:
                return
            library = name.rpartition("-")[0]
            where = rows().get(name, "something that docs/hosts.md does not name").replace("`", "")
            sentence = f"{installed(library)}: {what}; {where} needs it ({name} in docs/hosts.md)"
            pytest.fail(sentence, pytrace=False)

        return run

    return contract


def hold(condition: object, what: str) -> None:
    """Raises Broken, saying `what` is the case now, unless the condition holds."""
    if not condition:
        raise Broken(what)


def module(name: str, *wanted: str) -> Any:
    """A library's module, which has all the wanted names."""
    try:
        found = importlib.import_module(name)
    except Exception as error:  # the libraries' lazy imports raise RuntimeError, from what was wrong
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise Broken(f"{name} cannot be imported ({next(iter(str(reason).splitlines()), '')})") from error
    for each in wanted:
        try:
            getattr(found, each)
        except Exception as error:
            raise Broken(f"{name} has no {each}") from error
    return found


def has(thing: Any, *paths: str, name: str = "") -> None:
    """Checks that dotted attributes are there; `name`: what the thing is called, if not by its class."""
    name = name or (thing.__name__ if inspect.isclass(thing) else type(thing).__name__)
    for path in paths:
        at = thing
        for part in path.split("."):
            hold(hasattr(at, part), f"{name} has no {path}")
            at = getattr(at, part)


def takes(function: Any, *parameters: str) -> None:
    """Checks that a function may be given these parameters by name."""
    found = inspect.signature(function).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in found.values())
    for each in parameters:
        hold(free or each in found, f"{function.__qualname__} takes no {each}")


def order(function: Any, *parameters: str) -> None:
    """Checks that a function's first parameters have these names in this order."""
    found = [each for each in inspect.signature(function).parameters if each != "self"][: len(parameters)]
    hold(tuple(found) == parameters, f"{function.__qualname__} begins with {found}, no longer with {list(parameters)}")
