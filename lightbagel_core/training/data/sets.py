"""The sets of a stage, opened; and of each the part that is trained on and the part that is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from ..seeds import Stream, generator, of_stage
from ..stages import DataSet, Stage
from .example import Documented, Example, Examples, Shape
from .folder_set import FolderSet
from .store_set import StoreSet
from .world_set import WorldSet

NAMED = 5  # of the examples that are left out, so many are said


def open_sets(stage: Stage) -> list[Examples]:
    """The sets of a stage, in the order of its config.

    Raises:
        ValueError: a folder or store is missing or incomplete, or a share is no share.
    """
    return [open_set(stage, number) for number in range(len(stage.data.sets))]


def open_set(stage: Stage, number: int) -> Examples:
    """One of the sets of a stage; see `open_sets`."""
    asked = stage.data.sets[number]
    if asked.kind == "world":
        own, shared = of_stage(stage.seed, stage.name), held_out_counts(stage)[number]
        shares = asked.edits, asked.chains, asked.pairs, asked.others, asked.thoughts
        return WorldSet(stage.seed, *shares, number, asked.first, own, shared)
    assert asked.path is not None  # config sees to it
    return StoreSet(asked.path) if asked.kind == "store" else FolderSet(asked.path)


def set_names(stage: Stage) -> list[str]:
    """What each set is called: its own name, else its path, else its kind; a number is added where two agree."""
    names: list[str] = []
    for number, asked in enumerate(stage.data.sets):
        name = _name(asked)
        names.append(f"{name} {number}" if sum(_name(other) == name for other in stage.data.sets) > 1 else name)
    return names


def _name(asked: DataSet) -> str:
    return asked.name or asked.path or asked.kind


@dataclass(frozen=True, eq=False)
class Part:
    """Some examples of a set: those at these numbers, or, of one without end, all from a number on."""

    whole: Examples
    numbers: np.ndarray | int

    @property
    def count(self) -> int | None:
        return None if isinstance(self.numbers, int) else len(self.numbers)

    @property
    def identity(self) -> str:
        if isinstance(self.numbers, int):
            return f"{self.whole.identity} {self.numbers}"
        return f"{self.whole.identity} {hashlib.sha256(self.numbers.astype('<i8').tobytes()).hexdigest()}"

    def _number(self, index: int) -> int:
        return self.numbers + index if isinstance(self.numbers, int) else int(self.numbers[index])

    def shape(self, index: int) -> Shape:
        return self.whole.shape(self._number(index))

    def __getitem__(self, index: int) -> Example:
        return self.whole[self._number(index)]


def held_out_counts(stage: Stage) -> list[int]:
    """How many examples of each set are held out: equally many, whatever the weights, which differ from stage to stage.

    So what is held out in one stage was not trained on in another that has the same sets.
    """
    sets, all_of_them = len(stage.data.sets), stage.validation.held_out
    return [all_of_them // sets + (number < all_of_them % sets) for number in range(sets)]


def split(sets: Sequence[Examples], stage: Stage) -> tuple[list[Examples], list[Examples]]:
    """Of each set (what is trained on, what is held out).

    Held out are the first examples of a set without end, some at random of a finite one: at numbers that do not depend
    on the seed, so that runs on the same folders can be compared. What counts several times is held out as a whole, and
    measured once.

    Raises:
        ValueError: nothing of a set would be left.
    """
    trained: list[Examples] = []
    held: list[Examples] = []
    for whole, share, name in zip(sets, held_out_counts(stage), set_names(stage), strict=True):
        if whole.count is None:
            trained.append(Part(whole, share))
            held.append(Part(whole, np.arange(share)))
            continue
        numbers = np.arange(whole.count)
        rows = whole.rows(numbers) if isinstance(whole, StoreSet) else numbers
        distinct = int(rows[-1]) + 1
        if share >= distinct:
            raise ValueError(f"validation.held_out would take {share} of the {distinct} examples of {name}")
        apart = generator(0, Stream.HELD_OUT, distinct).permutation(distinct)[:share]
        trained.append(Part(whole, numbers[~np.isin(rows, apart)]))
        held.append(Part(whole, np.searchsorted(rows, apart)))
    return trained, held


def left_out(sets: Sequence[Examples], stage: Stage) -> list[str]:
    """A sentence for each set of which some examples cannot be learned from."""
    found = []
    for examples, name in zip(sets, set_names(stage), strict=True):
        if isinstance(examples, FolderSet) and examples.left_out:
            count, why = len(examples.left_out), "; ".join(examples.left_out[:NAMED])
            more = f"; and {count - NAMED} more" if count > NAMED else ""
            found.append(f"{count} of the {count + examples.count} examples of {name} are left out: {why}{more}")
    return found


def about(sets: Sequence[Examples], stage: Stage) -> list[dict[str, Any]]:
    """What a trained model's metadata says of each set: "name", "kind", "count", "weight", and where they are known
    "source", "licence", and "sets", of which it consists. No path of a person's disk is in it.
    """
    found = []
    for examples, asked, name in zip(sets, stage.data.sets, set_names(stage), strict=True):
        said: dict[str, Any] = {
            "name": PurePath(name).name,
            "kind": asked.kind,
            "count": examples.count,
            "weight": asked.weight,
        }
        said |= {key: text for key in ("source", "licence") if (text := getattr(asked, key)) is not None}
        if isinstance(examples, Documented):
            said["sets"] = examples.about()
        found.append(said)
    return found


def identity(sets: Sequence[Examples]) -> str:
    """A checksum of what sets hold, each picture included: what was read of them is made anew where it differs."""
    return _checksum(examples.identity for examples in sets)


def order(sets: Sequence[Examples]) -> str:
    """A checksum of what the batches of sets follow from: a picture that is added to a folder changes it, and one that
    takes another's place at the same size does not.
    """
    return _checksum(examples.order if isinstance(examples, FolderSet) else examples.identity for examples in sets)


def _checksum(lines: Iterable[str]) -> str:
    told = hashlib.sha256()
    for line in lines:
        told.update(line.encode() + b"\n")
    return told.hexdigest()
