"""The record of a run: a file of JSON lines, one for each step and for each thing that happened, never rewritten but
when a run resumes.

Every line has `kind`, `step` (how many steps are done) and `seconds`. `curves` draws, of steps, `loss`, `lr` and
`gradient_norm`; of validations `held_out` and the table `suites`; of starts after the first, that the run was resumed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from torch import Tensor

from ..files.writing import write_whole

FILE = "record.jsonl"
HELD_OUT = "held_out"  # the figure of a validation by which a checkpoint is the best: the least is
DIGITS = 9  # of a figure: as many as tell any two float32 apart

Kind = Literal["start", "step", "validation", "stop"]
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """What a file of lines holds.

    note: a sentence where its last line is torn, as a kill or a full disk may leave it; the line is not among `lines`.
    """

    lines: Sequence[Line]
    note: str = ""

    def of(self, kind: Kind) -> Iterator[Line]:
        """The lines of one kind, in their order."""
        return (line for line in self.lines if line["kind"] == kind)


def read(file: Path) -> Record:
    """The record in a file, empty where there is no file.

    Raises:
        ValueError: it cannot be read, or a line before the last is damaged.
    """
    try:
        rows = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Record(())
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}") from None
    lines: list[Line] = []
    last = max((number for number, row in enumerate(rows) if row.strip()), default=-1)
    for number, row in enumerate(rows[: last + 1]):
        try:
            line = json.loads(row)
            if not (isinstance(line["kind"], str) and isinstance(line["step"], int)):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            if number == last:
                return Record(lines, f"the last line of {file} is torn and left out")
            raise ValueError(
                f"{file}, line {number + 1} is no line of a record: mend it or delete it, or choose another folder"
            ) from None
        lines.append(line)
    return Record(lines)


class Journal:
    """Appends lines to a run's record. One process of a run has it; the file is locked against other runs.

    Args:
        file: below a folder that is there or can be made.
        step: the step that a run goes on from: what the record holds of later steps, which a killed run did and this
            one does again, is cut off. None: a new run, whose record must not be there yet.

    Raises:
        ValueError: another run writes here now, or wrote here and `step` is None, or the record is damaged or cannot be
            written.
    """

    def __init__(self, file: Path, step: int | None = None) -> None:
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(file.with_name(f".{file.name}.lock"))
            self._lock.acquire(blocking=False)
        except Timeout:
            raise ValueError(f"another run is writing to {file.parent} now: choose another folder, or end it") from None
        except OSError as error:
            raise ValueError(f"could not write {file}: {error.strerror or error}") from None
        try:
            before = read(file)
            self.note = before.note
            self.lines = self._kept(before, step)
        except ValueError:
            self._lock.release()
            raise
        self._seconds = max((line.get("seconds") or 0.0 for line in self.lines), default=0.0)
        self._started = time.monotonic()

    def _kept(self, before: Record, step: int | None) -> list[Line]:
        """Puts the lines up to a step in place of the file, which is whole before and after."""
        if step is None and before.lines:
            raise ValueError(
                f"{self.file.parent} holds the record of another run: choose another folder, or resume that one"
            )
        kept = [line for line in before.lines if line["step"] <= (step or 0)]
        write_whole(self.file, b"".join(map(_encoded, kept)), self.file.parent)
        return kept

    @property
    def seconds(self) -> float:
        """What this run has taken until now, what it took before it was resumed included."""
        return self._seconds + time.monotonic() - self._started

    def write(self, kind: Kind, step: int, **figures: Any) -> None:
        """Appends a line.

        Args:
            step: how many steps are done.
            figures: numbers, also as tensors of one element, texts, or lists and tables of these; a number that is not
                finite is written as null.

        Raises:
            ValueError: it could not be written; the record is then as it was before.
        """
        line = {"kind": kind, "step": step, "seconds": round(self.seconds, 2), **_plain(figures)}
        encoded = _encoded(line)
        try:
            with open(self.file, "ab", buffering=0) as target:
                end = os.fstat(target.fileno()).st_size
                if _write(target.fileno(), encoded) < len(encoded):
                    os.truncate(self.file, end)
                    raise OSError("the disk is full")
        except OSError as error:
            raise ValueError(f"could not write {self.file}: {error.strerror or error}") from None
        self.lines.append(line)

    def has(self, kind: Kind, step: int) -> bool:
        """Whether there is a line of this kind and step, of a validation that need not be done again, say."""
        return any(line["kind"] == kind and line["step"] == step for line in reversed(self.lines))

    def close(self) -> None:
        """Lets other runs write here."""
        self._lock.release()


def _write(descriptor: int, content: bytes) -> int:
    """Writes what fits on the disk; how many bytes that were."""
    return os.write(descriptor, content)


def _encoded(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    """A value as JSON can say it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Tensor):
        value = value.item()
    if isinstance(value, bool | int | str) or value is None:
        return value
    value = float(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
