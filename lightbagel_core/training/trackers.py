"""Trackers of experiments, trackio or wandb, beside the record, which is written anyway. Both take the same calls."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

TrackerName = Literal["none", "trackio", "wandb"]


def library(name: TrackerName) -> Any:
    """A tracker's module.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{name} cannot be imported ({error}): pip install {name}, or train with validation.tracker=none"
        ) from None


class Tracker:
    """Sends a run's figures to a tracker; to none, nothing happens.

    Args:
        name: the library, which is imported here.
        project, run: what the tracker shows the run under.
        config: what the run was asked, for the tracker's page.
        folder: where the library may keep files of its own.

    Raises:
        ValueError: the library is not installed, or could not begin.
    """

    def __init__(self, name: TrackerName, project: str, run: str, config: Mapping[str, Any], folder: Path) -> None:
        self.name = name
        self._library: Any = None
        if name == "none":
            return
        self._library = library(name)
        options = {"dir": str(folder)} if name == "wandb" else {}
        try:
            self._library.init(project=project, name=run, config=dict(config), **options)
        except Exception as error:
            raise ValueError(
                f"{name} could not begin ({error}): mend that, or train with validation.tracker=none"
            ) from None

    def log(self, step: int, figures: Mapping[str, Any]) -> str:
        """Sends the numbers among a step's figures, those of a table under "table/name".

        Returns:
            "", or a sentence where the tracker failed: training goes on, and the record has the figures.
        """
        return self._call("log", numbers(figures), step=step)

    def finish(self) -> str:
        """Ends the run at the tracker; a sentence where that failed."""
        return self._call("finish")

    def _call(self, what: str, *args: Any, **options: Any) -> str:
        if self._library is None:
            return ""
        try:
            getattr(self._library, what)(*args, **options)
        except Exception as error:
            return f"{self.name} failed ({error}); the record has its figures"
        return ""


def numbers(figures: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """The numbers among figures, those in tables with the tables' names before theirs."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{before}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[before + name] = value
    return found
