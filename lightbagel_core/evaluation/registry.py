"""The benches by name. A module is imported when its bench, its constant BENCH or another, is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bench import Bench

MODULES = {
    "geneval": "benches.geneval",
    "dpg": "benches.dpg",
    "gedit": "benches.gedit",
    "imgedit": "benches.imgedit",
    "wise": "benches.wise",
    "rise": "benches.rise",
    "kris": "benches.kris",
    "nano-geneval": "suites.drawing",
    "nano-geneval-short": "suites.drawing:SHORT_BENCH",
    "nano-imgedit": "suites.editing",
    "nano-multiturn": "suites.turns",
}


def bench_named(name: str) -> Bench:
    """The bench of a name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in MODULES:
        raise ValueError(f"there is no bench {name!r}; there are {', '.join(MODULES)}")
    module, _, constant = MODULES[name].partition(":")
    bench: Bench = getattr(import_module(f".{module}", __package__), constant or "BENCH")
    return bench
