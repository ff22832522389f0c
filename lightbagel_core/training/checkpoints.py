"""Checkpoints of a run by torch's distributed checkpoint: safetensors and JSON, no pickle, on any number of processes.

    FOLDER/step-00000500/shard-00001-model-00001-of-00001.safetensors   a process's part of every tensor
    FOLDER/step-00000500/training.json      step, seconds, the config, torch's version; the held-out loss where measured

A checkpoint is written into a hidden folder, which gets its name when all processes have written: so it is whole or not
there, whenever a run is killed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from . import sharded_files
from .journal import HELD_OUT
from .parallel import of_first

NOTE = "training.json"


class Checkpoints:
    """The checkpoints of one stage. Everything but `best` and `note` is called by all processes together.

    Args:
        folder: where they lie; seen by all processes. What a killed run left half written in it is removed.
        keep: so many of the latest stay, and the best.
        config: what the run was asked for, to be kept beside the tensors.

    Raises:
        ValueError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, keep: int, config: Mapping[str, Any] | None = None) -> None:
        self.folder, self.keep, self.config = folder, max(1, keep), dict(config or {})
        # its own group: an asynchronous save speaks to the other processes while they train
        self.group: Any = dist.new_group(backend="gloo")
        self._pending: tuple[int, Future[Any]] | None = None
        self._together(self._clean)

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        seconds: float = 0.0,
        asynchronous: bool = True,
        value: float | None = None,
    ) -> None:
        """Writes a checkpoint; one of the same step that is there already stays, and gets the value.

        Args:
            tensors: the same names on all processes; DTensors are written by those that hold them.
            seconds: trained so far, for the note.
            asynchronous: whether to return as soon as the tensors are copied to host memory, after which they may
                change. What goes wrong then is raised by the next `wait`, `save` or `latest`.
            value: the held-out loss: the checkpoint that has the least of all stays.

        Raises:
            ValueError: this or the last one could not be written; nothing half written is left.
        """
        if asynchronous and value is None and self._pending is not None and self._pending[0] == step:
            return  # which a validation has begun to save, with its value
        self.wait()
        measured = {} if value is None or not math.isfinite(value) else {HELD_OUT: value}
        if self._together(lambda: self._is_there(step, measured)):
            return
        note = {
            "step": step,
            "seconds": round(seconds, 1),
            "torch": torch.__version__,
            "config": self.config,
        } | measured
        partial = self.folder / f".{self.path(step).name}.partial"
        try:
            future = sharded_files.write(partial, tensors, self.group, lambda: self._finish(step, note), asynchronous)
        except sharded_files.Failed as error:
            raise self._failed(step, error) from None
        self._pending = (step, future) if future is not None else None

    def wait(self) -> None:
        """Returns when the last save is on disk.

        Raises:
            ValueError: it could not be written.
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            sharded_files.finish(future)
        except sharded_files.Failed as error:
            raise self._failed(step, error) from None

    def latest(self) -> int | None:
        """The step of the latest checkpoint; None without any."""
        self.wait()
        return self._together(lambda: max(self.steps(), default=None))

    def steps(self) -> list[int]:
        """The steps of which there are checkpoints, as the folder stands now."""
        return sorted(int(p.name.removeprefix("step-")) for p in self.folder.glob("step-????????") if p.is_dir())

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.folder / f"step-{step:08d}"

    def note(self, step: int) -> dict[str, Any]:
        """What stands beside a checkpoint's tensors: step, seconds, torch, config."""
        return _read(self.path(step) / NOTE)

    def load(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Fills tensors in place from a checkpoint, which may have been saved by another number of processes.

        Raises:
            ValueError: there is no such checkpoint, it is damaged, or its tensors are not these: other names, shapes or
                dtypes, which are named.
        """
        self.wait()
        path = self.path(step)
        if not path.is_dir():
            there = ", ".join(map(str, self.steps())) or "none"
            raise ValueError(f"there is no checkpoint of step {step} in {self.folder}; there are {there}")
        sharded_files.read(path, tensors, self.group)

    def best(self) -> tuple[int, float] | None:
        """(step, value) of the best checkpoint, of several the first; None if none has a value."""
        values = {step: self.note(step).get(HELD_OUT) for step in self.steps()}
        measured = [(value, step) for step, value in values.items() if value is not None]
        return min(measured)[::-1] if measured else None

    def _is_there(self, step: int, measured: dict[str, float]) -> bool:
        there = self.path(step).is_dir()
        if there and measured:
            _write(self.path(step) / NOTE, self.note(step) | measured)
        return there

    def _finish(self, step: int, note: dict[str, Any]) -> None:
        """Runs on one process when all have written."""
        partial = self.folder / f".{self.path(step).name}.partial"
        _write(partial / NOTE, note)
        _sync(partial)
        partial.rename(self.path(step))
        _sync(self.folder)
        best = self.best()
        for s in self.steps()[: -self.keep]:
            if best is not None and s == best[0]:
                continue
            # first its name goes: a folder that is half removed must not look whole
            shutil.rmtree(self.path(s).rename(self.folder / f".{self.path(s).name}.removed"), ignore_errors=True)

    def _clean(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".step-*"):
            shutil.rmtree(left)
        probe = self.folder / ".step-probe"
        probe.mkdir()
        probe.rmdir()

    def _failed(self, step: int, error: Exception) -> ValueError:
        self._together(lambda: shutil.rmtree(self.folder / f".{self.path(step).name}.partial", ignore_errors=True))
        return ValueError(
            f"the checkpoint of step {step} could not be written to {self.folder}: {error}. Nothing half written "
            "is left; make room there or allow writing, and go on from the last checkpoint"
        )

    def _together(self, ask: Callable[[], Any]) -> Any:
        """What the first process finds; all processes get the same answer or the same error."""

        def said() -> Any:
            try:
                return ask()
            except OSError as error:
                raise ValueError(f"checkpoints cannot be written to {self.folder}: {error}") from None

        return of_first(said, self.group)


def _write(file: Path, values: Mapping[str, Any]) -> None:
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w", encoding="utf-8") as out:
        json.dump(values, out, indent=2)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(file)


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None


def _sync(folder: Path) -> None:
    """Has a folder's entries reach the disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
