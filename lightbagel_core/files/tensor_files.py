"""Tensors where they lie: safetensors files and sharded sets of them, listed by their headers and read when wanted.

Nothing here knows what a tensor is for. Pickled files are refused, shards may not point outside their folder, and no
file stays open.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .file_names import is_plain

INDEX = ".index.json"
MAX_SHARDS = 1000  # far above any real model; an index of more is damaged or hostile
PICKLED = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"}
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I32": torch.int32,
    "I64": torch.int64,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """One tensor in a file, not read yet.

    held: its shape in the file; offset: where it begins there, in bytes.
    stamp: what the file was when it was listed (see `_stamp`).
    shape: as it is given out; rework: what turns the one into the other, where they differ.
    added: what gives it in float32 with something added (see `lora`), one after the other; for whoever turns it into a
        weight, since that may have a scale: none of the readers here does it.
    """

    file: Path
    key: str
    held: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stamp: tuple[int, ...] = ()
    rework: Callable[[Tensor], Tensor] | None = None
    added: tuple[Callable[[Tensor], Tensor], ...] = ()

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


Tensors = dict[str, Stored]


def refuse_pickle(path: Path) -> None:
    """Raises ValueError for files that can run code when opened."""
    if path.suffix.lower() in PICKLED:
        raise ValueError(
            f"{path} is a pickle file, which can run any code when it is opened. LightBagel reads safetensors only: "
            "look for a .safetensors of the same model, or save it as one with the program that made it."
        )


def _stamp(file: BinaryIO) -> tuple[int, ...]:
    """Size, time and identity of an open file: another or a changed one has another."""
    about = os.fstat(file.fileno())
    return about.st_size, about.st_mtime_ns, about.st_ino


def _damaged(file: Path, error: Any) -> ValueError:
    return ValueError(f"{file} is damaged or no safetensors file: {error}")


def read_header(file: Path) -> Tensors:
    """The tensors of one safetensors file, by the file's own names.

    Raises:
        ValueError: the file is missing, pickled or damaged, or holds a dtype no model has.
    """
    refuse_pickle(file)
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    try:
        with safe_open(file, "np"):  # the library's own checks: lengths, offsets, shapes
            pass
        with open(file, "rb") as data:
            stamp = _stamp(data)
            length = int.from_bytes(data.read(8), "little")
            header = json.loads(data.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(file, error) from None
    header.pop("__metadata__", None)
    found: Tensors = {}
    for key, field in header.items():
        if field["dtype"] not in SAFETENSORS_DTYPES:
            raise ValueError(f"{file} stores {key} as {field['dtype']}, which cannot be read here")
        shape = tuple(field["shape"])
        offset = 8 + length + field["data_offsets"][0]
        found[key] = Stored(file, key, shape, SAFETENSORS_DTYPES[field["dtype"]], offset, shape, stamp)
    return found


def read_index(index: Path) -> Tensors:
    """The tensors of a sharded set, from its `….safetensors.index.json`.

    Raises:
        ValueError: the index is damaged or names files outside its folder; a shard is missing, damaged, or lacks a
            tensor that the index promises.
    """
    try:
        names = json.loads(index.read_text("utf-8"))["weight_map"]
        shards = sorted(set(names.values()))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of a sharded checkpoint: {error!r}") from None
    if len(shards) > MAX_SHARDS:
        raise ValueError(f"{index} names {len(shards)} files; no model here has more than {MAX_SHARDS}")
    for shard in shards:
        if not isinstance(shard, str) or not is_plain(shard):
            raise ValueError(f"{index} names what is no file of its own folder: {shard!r}")
        refuse_pickle(Path(shard))
    lacking = [shard for shard in shards if not (index.parent / shard).is_file()]
    if lacking:
        raise ValueError(f"{index} names files that are not there: {listed(lacking)}")
    held = {shard: read_header(index.parent / shard) for shard in shards}
    broken = sorted(name for name, shard in names.items() if name not in held[shard])
    if broken:
        raise ValueError(f"{index} names tensors that their files do not hold: {listed(broken)}")
    found: Tensors = {}
    for tensors in held.values():
        twice = sorted(found.keys() & tensors.keys())
        if twice:
            raise ValueError(f"two files beside {index} hold the same tensors: {listed(twice)}")
        found |= tensors
    return found


def find(folder: Path, *stems: str) -> Path | None:
    """The first `STEM.safetensors` or `STEM.safetensors.index.json` that a folder has, in the order of the stems."""
    for stem in stems:
        for name in (f"{stem}.safetensors", f"{stem}.safetensors{INDEX}"):
            if (folder / name).is_file():
                return folder / name
    return None


def read_any(path: Path) -> Tensors:
    """The tensors of a file, or of a sharded set whose index `path` names."""
    return read_index(path) if path.name.endswith(INDEX) else read_header(path)


def sha256(file: Path, stop: Callable[[], bool] = lambda: False) -> str:
    """The checksum of a file; `stop` is asked now and then whether it is still wanted."""
    digest = hashlib.sha256()
    with open(file, "rb") as data:
        while not stop() and (block := data.read(1 << 22)):
            digest.update(block)
    return digest.hexdigest()


def listed(names: list[str]) -> str:
    """The first few of many names, for a message."""
    shown = ", ".join(names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def check_fit(found: Mapping[str, Stored], wanted: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raises ValueError, naming all of them, where tensors are missing, unexpected or of another shape than wanted."""
    problems = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(f"{n} ({found[n].key})" if found[n].key != n else n for n in found.keys() - wanted.keys()),
        "wrong shape": [
            f"{n} {list(found[n].shape)} instead of {list(wanted[n])}"
            for n in sorted(found.keys() & wanted.keys())
            if found[n].shape != tuple(wanted[n])
        ],
    }
    said = "; ".join(f"{kind}: {listed(names)}" for kind, names in problems.items() if names)
    if said:
        raise ValueError(f"{what} does not fit the config. {said}")


def _mapped(stored: Stored, start: int, count: int) -> Tensor:
    """`count` numbers of a tensor from number `start` on, flat, in the memory-mapped file.

    Only that stretch is mapped, and only as long as the tensor lives: a file may be larger than the memory, and what
    was read is given back with the tensor. Writing to it changes a private copy, never the file.
    """
    size = stored.dtype.itemsize
    at = stored.offset + start * size
    spare = at % mmap.ALLOCATIONGRANULARITY
    try:
        with open(stored.file, "rb") as file:
            if stored.stamp != _stamp(file):
                raise ValueError("it was replaced or changed after it was opened; open the model again")
            place = mmap.mmap(file.fileno(), spare + count * size, access=mmap.ACCESS_COPY, offset=at - spare)
    except (OSError, ValueError) as error:
        raise _damaged(stored.file, error) from None
    if at % size:  # a writer that did not align its tensors
        return torch.frombuffer(bytearray(place[spare:]), dtype=stored.dtype)
    return torch.frombuffer(place, dtype=stored.dtype, count=count, offset=spare)


def read(stored: Stored) -> Tensor:
    """A whole tensor, on the CPU, in its stored dtype; where nothing is reworked it *is* its place in the file.

    Raises:
        ValueError: the file is gone or no longer what it was.
    """
    count = math.prod(stored.held)
    tensor = _mapped(stored, 0, count).view(stored.held) if count else torch.empty(stored.held, dtype=stored.dtype)
    return tensor if stored.rework is None else stored.rework(tensor)


def read_rows(stored: Stored, start: int, stop: int) -> Tensor:
    """The same of rows `start` to `stop` of a tensor of at least one dimension, of which alone the file is read; a
    reworked tensor is read whole.

    Raises:
        ValueError: as `read`.
    """
    if stored.rework is not None:
        return read(stored)[start:stop]
    width, shape = math.prod(stored.held[1:]), (stop - start, *stored.held[1:])
    count = (stop - start) * width
    return _mapped(stored, start * width, count).view(shape) if count else torch.empty(shape, dtype=stored.dtype)


def chunks(stored: Stored, size: int) -> Iterator[Tensor]:
    """The same, flat and in order, in pieces of at most `size` bytes; a reworked tensor comes whole."""
    if stored.rework is not None or stored.bytes <= size:
        yield read(stored).flatten()
        return
    count, step = math.prod(stored.held), size // stored.dtype.itemsize
    for start in range(0, count, step):
        yield _mapped(stored, start, min(step, count - start))
