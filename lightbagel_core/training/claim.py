"""A run's folder belongs to what was asked when it began: another run is refused, and resuming asks the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..evaluation.writing import write_whole
from .stages import Stage

FILE = "run.json"
MAY_DIFFER = (
    "steps",
    "device",
    "parallel",
    "checkpoints",
    "validation",
    "leap",
    "compile",
    "checkpointing",
    "cache.folder",
    "output",
    "optimiser.lr",  # what is advised after a step that was refused
    "optimiser.clip",
    "batch.device_tokens",  # another card
)
FIXED = ("validation.held_out",)  # more held out would be trained on already, and all slots would hold others


def claim(out: Path, stages: Sequence[Stage], resume: bool) -> None:
    """Writes what was asked into a run's folder, or finds that it is the same as before.

    What changes nothing of what is learned at a step may differ: where and on how many processes it runs, how often it
    is kept and looked at, and how long it goes on.

    Raises:
        ValueError: the folder holds a run and is not to be resumed, or another one; the message names what differs.
    """
    file = out / FILE
    asked = json.loads(json.dumps([asdict(stage) for stage in stages]))
    if file.is_file():
        if not resume:
            raise ValueError(f"{out} holds a run already: add --resume to go on with it, or choose another folder")
        try:
            before = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} is damaged: {error}") from None
        differing = sorted(set(_differences(before, asked)))
        if differing:
            raise ValueError(f"{out} holds a run that was asked otherwise: {'; '.join(differing)}")
    elif resume:
        raise ValueError(f"{out} holds no run to go on with: leave --resume out")
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} holds other files; choose a new folder")
    write_whole(file, (json.dumps(asked, indent=1) + "\n").encode(), out)


def _differences(before: Any, asked: Any) -> Iterator[str]:
    if not (isinstance(before, list) and all(isinstance(stage, Mapping) for stage in before)):
        yield "it is no list of stages"
        return
    names = [[stage.get("name") for stage in stages] for stages in (before, asked)]
    if names[0] != names[1]:
        yield f"its stages are {names[0]}, not {names[1]}"
        return
    for old, new in zip(before, asked, strict=True):
        was, now = dict(_flat(old)), dict(_flat(new))
        for key in was.keys() | now.keys():
            free = key not in FIXED and any(key == name or key.startswith(f"{name}.") for name in MAY_DIFFER)
            if not free and was.get(key) != now.get(key):
                yield f"{key} was {was.get(key)!r}, now it is {now.get(key)!r}"


def _flat(table: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value
