"""The rolling cache: samples with the VLM's states, on disk, of which the oldest make room for new ones.

Chunk n holds the samples of slots n * samples and on, with the segments dropped that were dropped when it was made. It
lies in files of `PART` slots each. Which chunks a step needs depends on the step alone (`window`), so a resumed run has
the same; what of them is missing is made, by all processes together, and only for that VLM and VAE are opened. What is
read stays where it is: the files are mapped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import torch
import torch.distributed as dist

from ..stages import Cache
from .part_file import read_part, read_stamp, write_part
from .samples import Sample
from .window import chunk_numbers

PART = 32  # slots of a file; a fixed number, so that parts are the same whoever makes them

Make = Callable[[Sequence[int]], list[list[Sample]]]  # of slots: the samples of each


class Pool:
    """
    Args:
        folder: where the parts lie; all processes must see it.
        stamp: what the samples depend on besides their slot; parts with another one are made anew.
        making: opens VLM and VAE and gives what makes the samples of slots. It is entered only when parts are missing,
            and on each process by itself.
    """

    def __init__(
        self, folder: Path, cache: Cache, stamp: str, making: Callable[[], AbstractContextManager[Make]]
    ) -> None:
        self.folder, self.cache, self.stamp, self.making = folder, cache, stamp, making
        self.ready: range | None = None
        self._mapped: dict[range, list[list[Sample]]] = {}

    def prepare(self, step: int) -> bool:
        """Makes what a step needs and is not there yet, and deletes what no later step needs.

        Every process must call it with the same step. Returns whether this one made anything.

        Raises:
            ValueError: a part cannot be written.
        """
        chunks = chunk_numbers(self.cache, step)
        if chunks == self.ready:
            return False
        rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        mine = [slots for chunk in chunks for slots in self._parts(chunk)][rank::size]
        missing = [slots for slots in mine if read_stamp(self._file(slots)) != self.stamp]
        if missing:
            with self.making() as make:
                for slots in missing:
                    self._write(slots, make(slots))
        if size > 1:  # the others' parts
            dist.all_reduce(torch.zeros(1))
        for file in self._older(chunks.start):
            with suppress(OSError):  # another process was faster, or Windows has it open; then the next time
                file.unlink()
        self.ready = chunks
        kept = {slots for chunk in chunks for slots in self._parts(chunk)}
        self._mapped = {slots: samples for slots, samples in self._mapped.items() if slots in kept}
        return bool(missing)

    def samples(self, slot: int) -> list[Sample]:
        """The samples of a slot of the chunks that are ready.

        Raises:
            ValueError: its part is gone, damaged or another run's.
        """
        chunk, at = divmod(slot, self.cache.samples)
        slots = self._parts(chunk)[at // PART]
        if slots not in self._mapped:
            self._mapped[slots] = self._read(slots)
        return self._mapped[slots][at % PART]

    def _parts(self, chunk: int) -> list[range]:
        """The slots of each part of a chunk."""
        slots = range(chunk * self.cache.samples, (chunk + 1) * self.cache.samples)
        return [slots[start : start + PART] for start in range(0, len(slots), PART)]

    def _file(self, slots: range) -> Path:
        chunk, at = divmod(slots.start, self.cache.samples)
        return self.folder / f"chunk-{chunk:08}-{at // PART:04}.safetensors"

    def _write(self, slots: range, samples: list[list[Sample]]) -> None:
        file = self._file(slots)
        try:
            write_part(file, samples, self.stamp)
        except OSError as error:
            raise ValueError(f"could not write the rolling cache {file}: {error}") from None

    def _read(self, slots: range) -> list[list[Sample]]:
        file = self._file(slots)
        if read_stamp(file) not in (self.stamp, None):
            raise ValueError(f"{file} was replaced by another run; give each run a folder of its own (cache.folder)")
        return read_part(file)

    def _older(self, first: int) -> Iterator[Path]:
        """The parts of chunks before one."""
        for file in sorted(self.folder.glob("chunk-*.safetensors")):
            named = re.fullmatch(r"chunk-(\d+)-\d+", file.stem)
            if named and int(named[1]) < first:
                yield file
