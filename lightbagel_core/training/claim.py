"""A run's folder belongs to what was asked when it began: another run is refused, and resuming asks the same.

While a run goes on it holds a lock on the folder, which the system lets go however the run ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..files.writing import write_whole
from .data.sets import open_sets, order
from .stages import Stage

FILE, LOCK = "run.json", ".run.lock"
EXAMPLES = "examples"  # beside what a stage was told: a checksum of what its batches follow from
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
    "output_from",
    # what a person changes who goes on after a step that was stopped, or on another card
    "optimiser.lr",
    "optimiser.clip",
    "batch.device_tokens",
)
FIXED = ("validation.held_out",)  # more held out would be trained on already, and all slots would hold others


@contextmanager
def claim(out: Path, stages: Sequence[Stage], resume: bool) -> Iterator[None]:
    """Holds a run's folder, having written into it what is asked, or found that it is the same as before.

    What may differ: where and on how many processes it runs, how often it is kept and looked at, how long it goes on
    under a constant learning rate, what is to be changed after a step that was refused, and what the pictures show: one
    that is found damaged on the way can be replaced by one of the same name and size. Their names, sizes and texts may
    not: with others all later batches would be others.

    Raises:
        ValueError: the folder holds a run and is not to be resumed, or another one, and the message names what differs;
            it is in use by a run; or the examples cannot be opened.
    """
    file = out / FILE
    asked = [asdict(stage) | {EXAMPLES: _examples(stage)} for stage in stages]
    if not file.is_file():
        if resume:
            raise ValueError(f"{out} holds no run to go on with: leave --resume out")
        if out.exists() and any(found.name != LOCK for found in out.iterdir()):
            raise ValueError(f"{out} holds other files; choose a new folder")
    elif not resume:
        raise ValueError(f"{out} holds a run already: add --resume to go on with it, or choose another folder")
    lock = FileLock(out / LOCK)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"another run is writing to {out} now: choose another folder, or end it") from None
    except OSError as error:
        raise ValueError(f"{out} cannot be written to: {error.strerror or error}") from None
    try:
        _compare(out, json.loads(json.dumps(asked)))
        write_whole(file, (json.dumps(asked, indent=1) + "\n").encode(), out)
        yield
    finally:
        lock.release()


def _examples(stage: Stage) -> str:
    return order(open_sets(stage)) if stage.recipe == "drawing" else ""


def _compare(out: Path, asked: list[dict[str, Any]]) -> None:
    file = out / FILE
    if not file.is_file():
        return
    try:
        before = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    differing = sorted(set(_differences(before, asked)))
    if differing:
        raise ValueError(f"{out} holds a run that was asked otherwise: {'; '.join(differing)}")


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
            if was.get(key) == now.get(key):
                continue
            if key == EXAMPLES:
                yield f"the pictures of the stage {new['name']}, their sizes or their texts are not those it began with"
            elif key == "steps" and now["optimiser.schedule"] != "constant":
                yield f"steps was {was[key]}, now it is {now[key]}: a cosine over others has other learning rates"
            elif not free:
                yield f"{key} was {was.get(key)!r}, now it is {now.get(key)!r}"


def _flat(table: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value
