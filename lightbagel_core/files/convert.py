"""From any format to a folder of our own, a few megabytes at a time.

Shards are written one after the other into a hidden folder beside the new one; a conversion that was broken off goes on
with the first shard that is missing. Only when everything is there does the folder get its name.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm

from .checkpoint import read_scale
from .formats import Opened
from .precision import FLOAT8_KINDS, SCALE, Precision, dtypes, scale_of, to_float8, widened
from .tensor_files import INDEX, SAFETENSORS_DTYPES, Stored, Tensors, chunks, sha256
from .tokenizer import open_tokenizer, save_tokenizer

CHUNK = 32 << 20  # bytes of a tensor that are in memory at a time
SHARD = 4 << 30  # bytes of a shard, unless one tensor is larger
CODES = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}
Progress = Callable[[int], Any]
Shards = dict[str, "list[Entry]"]  # by file name


@dataclass(frozen=True)
class Entry:
    """One tensor to be written. scale: the stored scale of a float8 source."""

    name: str
    source: Stored
    dtype: torch.dtype
    scale: Stored | None = None

    @property
    def bytes(self) -> int:
        return replace(self.source, dtype=self.dtype).bytes

    @property
    def scaled(self) -> bool:
        """Whether a scale is written behind it."""
        return self.dtype in FLOAT8_KINDS and self.name.endswith(".weight")


def entries(component: str, tensors: Tensors, dtype: torch.dtype | None) -> list[Entry]:
    """What is written of a component; without a dtype everything stays as it is stored.

    Nothing is stored wider than it was: what is to compute in float32 is widened when it is loaded.
    """
    kinds = dtypes(component, tensors, Precision.of(dtype, torch.device("cpu")))
    made = []
    for name, kind in kinds.items():
        source = tensors[name]
        keeps = dtype is None or (source.dtype not in FLOAT8_KINDS and source.dtype.itemsize < kind.itemsize)
        made.append(Entry(name, source, source.dtype if keeps else kind, tensors.get(name + SCALE)))
    return made


def shards(component: str, listed: list[Entry], size: int) -> dict[str, list[Entry]]:
    """Entries by file name, as many to a file as fit into `size` bytes."""
    groups: list[list[Entry]] = [[]]
    room = size
    for entry in listed:
        if entry.bytes > room and groups[-1]:
            groups.append([])
            room = size
        groups[-1].append(entry)
        room -= entry.bytes
    if len(groups) == 1:
        return {f"{component}.safetensors": groups[0]}
    return {f"{component}-{i:05}-of-{len(groups):05}.safetensors": group for i, group in enumerate(groups, 1)}


def pieces(entry: Entry, progress: Progress) -> Iterator[Tensor]:
    """The tensor to be written, flat, piece by piece; behind a float8 one its scale, float32 [1]."""
    held = entry.source.dtype
    scale = read_scale(entry.scale)
    if entry.scaled and held not in FLOAT8_KINDS:
        largest = [piece.abs().amax() for piece in chunks(entry.source, CHUNK)]
        scale = scale_of(torch.stack(largest).amax())
    for piece in chunks(entry.source, CHUNK):
        if entry.dtype == held:
            yield piece
        elif entry.scaled:
            yield to_float8(piece, scale)
        else:
            yield widened(piece, scale, entry.dtype) if held in FLOAT8_KINDS else piece.to(entry.dtype)
        progress(piece.numel() * entry.dtype.itemsize)
    if entry.scaled:
        yield scale.reshape(1)


def header(group: list[Entry], metadata: dict[str, str]) -> bytes:
    """A safetensors file's head: its length, then JSON of every tensor's dtype, shape and place."""
    at, fields = 0, {"__metadata__": metadata}

    def add(name: str, dtype: torch.dtype, shape: tuple[int, ...], length: int) -> None:
        nonlocal at
        fields[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [at, at + length]}  # type: ignore
        at += length

    for entry in group:
        add(entry.name, entry.dtype, entry.source.shape, entry.bytes)
        if entry.scaled:
            add(entry.name + SCALE, torch.float32, (), 4)
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write(file: Path, group: list[Entry], metadata: dict[str, str], progress: Progress) -> None:
    """One safetensors file; it appears whole under its name or not at all."""
    partial = file.with_name(f"{file.name}.partial")
    with open(partial, "wb") as out:
        out.write(header(group, metadata))
        for entry in group:
            for piece in pieces(entry, progress):
                out.write(piece.contiguous().view(torch.uint8).numpy().data)
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, file)


def convert(
    opened: Opened, out: Path, dtype: torch.dtype | None = None, shard: int = SHARD, progress: bool = True
) -> None:
    """Writes a checkpoint folder of our own from a model in any format.

    Args:
        out: the new folder.
        dtype: as in `Precision.of`, of what is written; None: each tensor as it is stored.
        shard: bytes of a file, at most, unless one tensor is larger.

    Raises:
        ValueError: `out` is there already, a source is damaged, the disk is too small or cannot be written to.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; choose a new folder, nothing is ever overwritten")
    tokenizer = None if opened.tokenizer is None else open_tokenizer(opened.tokenizer)
    if tokenizer is None and "understanding" in opened.components:
        open_tokenizer(None)  # says what is missing
    plan = {name: shards(name, entries(name, held, dtype), shard) for name, held in opened.components.items()}
    lock = out.with_name(f".{out.name}.converting.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            _write_all(opened, out, plan, tokenizer, progress)
            lock.unlink(missing_ok=True)
    except Timeout:
        raise ValueError(f"another conversion is writing {out}; wait for it, or choose another folder") from None
    except OSError as error:
        raise ValueError(f"could not write {out}: {error}") from None


def _write_all(opened: Opened, out: Path, plan: dict[str, Shards], tokenizer: Any, progress: bool) -> None:
    files = {name: group for shards in plan.values() for name, group in shards.items()}
    total = sum(entry.bytes for group in files.values() for entry in group)
    scratch = out.with_name(f".{out.name}.converting")
    stamp = out.with_name(f"{scratch.name}.json")
    metadata = {"format": "pt", "lightbagel_format": str(opened.config.format_version)}
    _resume_or_begin(scratch, stamp, {"files": _fingerprint(opened.files), "written": _written(files)})
    done = {name for name in files if (scratch / name).is_file()}
    left = sum(entry.bytes for name in files.keys() - done for entry in files[name])
    free = shutil.disk_usage(scratch).free
    if left > free:
        raise ValueError(f"{out} needs {left / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there")
    stopped = threading.Event()
    with (
        tqdm(total=total, initial=total - left, disable=not progress, unit="B", unit_scale=True) as bar,
        ThreadPoolExecutor(1) as beside,
    ):
        hashes = {file: beside.submit(sha256, file, stopped.is_set) for file in opened.files}
        try:
            for name in sorted(files.keys() - done):
                write(scratch / name, files[name], metadata, bar.update)
            sources = {str(file): future.result() for file, future in hashes.items()}
        finally:
            stopped.set()
    for component, held in plan.items():
        _write_index(scratch, component, held)
    # Whole paths tell two files of one name apart, but say where a person keeps them: as little of them as is needed.
    base = os.path.commonpath([file.parent for file in opened.files])
    named = {Path(os.path.relpath(file, base)).as_posix(): digest for file, digest in sources.items()}
    config = replace(opened.config, metadata={**opened.config.metadata, "sources": named})
    (scratch / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n", "utf-8")
    if tokenizer is not None:
        save_tokenizer(tokenizer, scratch)
    for file in scratch.iterdir():
        with open(file, "rb+") as written:
            os.fsync(written.fileno())
    scratch.rename(out)
    stamp.unlink()


def _fingerprint(files: list[Path]) -> list[list[Any]]:
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _written(files: dict[str, list[Entry]]) -> dict[str, list[list[str]]]:
    return {name: [[entry.name, CODES[entry.dtype]] for entry in group] for name, group in files.items()}


def _resume_or_begin(scratch: Path, stamp: Path, wanted: dict[str, Any]) -> None:
    """Keeps what an earlier conversion of the same files to the same plan has written, and nothing else."""
    try:
        same = json.loads(stamp.read_text("utf-8")) == wanted
    except (OSError, ValueError):
        same = False
    if not same and scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir(exist_ok=True)
    if not same:
        partial = stamp.with_suffix(".partial")
        partial.write_text(json.dumps(wanted), "utf-8")
        os.replace(partial, stamp)


def _write_index(folder: Path, component: str, held: dict[str, list[Entry]]) -> None:
    if len(held) == 1:
        return
    names = {}
    for file, group in held.items():
        for entry in group:
            names[entry.name] = file
            if entry.scaled:
                names[entry.name + SCALE] = file
    size = sum(entry.bytes for group in held.values() for entry in group)
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": names}, indent=1)
    (folder / f"{component}.safetensors{INDEX}").write_text(text + "\n", "utf-8")
