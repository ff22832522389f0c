"""Writes our own checkpoint folder: the one place that knows what lies in it, and has it appear whole or not at all.

config.json   understanding.safetensors   generation.safetensors   fusion.safetensors   vae.safetensors
tokenizer.json   tokenizer_config.json   chat_template.jinja

A large component is sharded: COMPONENT-00001-of-00003.safetensors … and COMPONENT.safetensors.index.json.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm

from ..config import COMPONENTS, LightBagelConfig
from .file_names import check_new
from .tensor_files import INDEX, SAFETENSORS_DTYPES, listed
from .tokenizer import save_tokenizer

SHARD = 4 << 30  # bytes of a file, unless one tensor is larger
CODES = {dtype: code for code, dtype in SAFETENSORS_DTYPES.items()}
BESIDE = {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"}
OURS = re.compile(rf"(?:{'|'.join(COMPONENTS)})(?:-\d+-of-\d+)?\.safetensors(?:\.index\.json)?")


@dataclass(frozen=True)
class Entry:
    """What is written in one go: a tensor, or a float8 weight with its scale behind it.

    tensors: (name, dtype, shape) of each. pieces: gives their numbers in order, flat, a piece after the other.
    """

    tensors: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]
    pieces: Callable[[], Iterator[Tensor]]

    @property
    def bytes(self) -> int:
        return sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in self.tensors)


def shards(component: str, entries: list[Entry], size: int) -> dict[str, list[Entry]]:
    """Entries by file name, as many to a file as fit into `size` bytes."""
    groups: list[list[Entry]] = [[]]
    room = size
    for entry in entries:
        if entry.bytes > room and groups[-1]:
            groups.append([])
            room = size
        groups[-1].append(entry)
        room -= entry.bytes
    if len(groups) == 1:
        return {f"{component}.safetensors": groups[0]}
    return {f"{component}-{i:05}-of-{len(groups):05}.safetensors": group for i, group in enumerate(groups, 1)}


def header(entries: list[Entry], metadata: dict[str, str]) -> bytes:
    """A safetensors file's head: its length, then JSON of every tensor's dtype, shape and place."""
    at, fields = 0, {"__metadata__": metadata}
    for name, dtype, shape in (tensor for entry in entries for tensor in entry.tensors):
        end = at + math.prod(shape) * dtype.itemsize
        fields[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [at, end]}  # type: ignore
        at = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write(file: Path, entries: list[Entry], metadata: dict[str, str], progress: Callable[[int], Any]) -> None:
    """Writes one safetensors file; it appears whole under its name or not at all."""
    partial = file.with_name(f"{file.name}.partial")
    with open(partial, "wb") as out:
        out.write(header(entries, metadata))
        for piece in (piece for entry in entries for piece in entry.pieces()):
            progress(out.write(piece.contiguous().view(torch.uint8).numpy().data))
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, file)


def write_checkpoint(
    folder: Path,
    entries: Mapping[str, list[Entry]],
    config: LightBagelConfig,
    tokenizer: Any,
    *,
    shard: int = SHARD,
    sources: Any = None,
    about: Callable[[], dict[str, Any]] = dict,
    progress: bool = False,
) -> None:
    """Writes a checkpoint folder: its files one by one into a hidden folder beside it, which then gets its name.

    Args:
        entries: what is written, by component.
        shard: bytes of a file, at most, unless one tensor is larger.
        sources: what the weights are made from, as JSON can say it. With them nothing is replaced, and a call that was
            broken off is taken up by the next one with the same sources and entries. Without them another checkpoint of
            that name is replaced (killed in that very moment, it stands beside under `.NAME.old`).
        about: gives what is added to the config's metadata; called when the weights are written.

    Raises:
        ValueError: the folder may not be replaced, another process is writing it, or it could not be written.
    """
    check_new(folder)
    if sources is None and (strange := strangers(folder)):
        raise ValueError(f"{folder} is not a LightBagel checkpoint ({listed(strange)}); choose a new folder")
    if sources is not None and folder.exists():
        raise ValueError(f"{folder} is there already; choose a new folder, nothing is ever overwritten")
    split = {component: shards(component, held, shard) for component, held in entries.items()}
    files = {name: group for groups in split.values() for name, group in groups.items()}
    written = {name: [[n, CODES[dtype]] for e in group for n, dtype, _ in e.tensors] for name, group in files.items()}
    metadata = {"format": "pt", "lightbagel_format": str(config.format_version)}
    with _appearing(folder, sources and [sources, written]) as hidden:
        missing = {name: group for name, group in sorted(files.items()) if not (hidden / name).is_file()}
        total, left = (sum(e.bytes for group in some.values() for e in group) for some in (files, missing))
        free = shutil.disk_usage(hidden).free
        if left > free:
            raise ValueError(f"{folder} needs {left / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there")
        with tqdm(total=total, initial=total - left, disable=not progress, unit="B", unit_scale=True) as bar:
            for name, group in missing.items():
                write(hidden / name, group, metadata, bar.update)
        for component, groups in split.items():
            if len(groups) > 1:
                places = {name: file for file, group in groups.items() for e in group for name, *_ in e.tensors}
                size = {"total_size": sum(e.bytes for group in groups.values() for e in group)}
                _write_json(hidden / f"{component}.safetensors{INDEX}", {"metadata": size, "weight_map": places})
        _write_json(hidden / "config.json", replace(config, metadata={**config.metadata, **about()}).to_dict())
        if tokenizer is not None:
            save_tokenizer(tokenizer, hidden)


def _write_json(file: Path, data: Any) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def strangers(folder: Path) -> list[str]:
    """What at a path does not belong to a LightBagel checkpoint folder."""
    if not folder.is_dir():
        return [folder.name] if folder.exists() else []
    return sorted(f.name for f in folder.iterdir() if f.name not in BESIDE and not OURS.fullmatch(f.name))


@contextmanager
def _appearing(folder: Path, wanted: Any) -> Iterator[Path]:
    """Gives a hidden folder, which gets `folder`'s name when all went well.

    What an earlier call with the same `wanted` has written is still in it. None finds nothing, leaves nothing, and
    replaces what bears the name.
    """
    hidden = folder.with_name(f".{folder.name}.writing")
    stamp, lock = (hidden.with_name(f"{hidden.name}.{ending}") for ending in ("json", "lock"))
    mark = json.dumps(wanted).encode()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                if wanted is None or not stamp.is_file() or stamp.read_bytes() != mark:
                    if hidden.exists():
                        shutil.rmtree(hidden)
                    stamp.write_bytes(mark)
                hidden.mkdir(exist_ok=True)
                yield hidden
                for file in hidden.iterdir():
                    with open(file, "rb+") as written:
                        os.fsync(written.fileno())
                put_in_place(folder, hidden) if wanted is None else hidden.rename(folder)
                stamp.unlink()
            finally:
                if wanted is None:
                    shutil.rmtree(hidden, ignore_errors=True)
                    stamp.unlink(missing_ok=True)
                with suppress(OSError):  # Windows deletes no open file; there filelock does it afterwards
                    lock.unlink()
    except Timeout:
        raise ValueError(f"another process is writing {folder}; wait for it, or choose another folder") from None
    except OSError as error:
        used = isinstance(error, PermissionError) and folder.exists()
        hint = "; whatever has a model open from there must close it first, or choose a new folder" if used else ""
        raise ValueError(f"could not write {folder}: {error}{hint}") from None


def put_in_place(folder: Path, new: Path) -> None:
    """Has a new folder bear a name, in the place of what bears it; when that fails the other stays.

    Raises:
        OSError: it failed.
    """
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
