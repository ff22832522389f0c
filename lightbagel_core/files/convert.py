"""From any format to a checkpoint folder of our own, a few megabytes at a time.

A conversion that was broken off goes on with the first file that is missing.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import read_scale, with_added
from .formats import Opened
from .lora import merged
from .precision import FLOAT8, FLOAT8_KINDS, SCALE, Precision, dtypes, quantised, scale_of, to_float8, widened
from .tensor_files import Stored, Tensors, chunks, read, sha256
from .tokenizer import open_tokenizer
from .writer import SHARD, Entry, write_checkpoint

CHUNK = 32 << 20  # bytes of a tensor that are in memory at a time


def entries(component: str, tensors: Tensors, dtype: torch.dtype | None) -> list[Entry]:
    """What is written of a component: nothing wider than it is stored, and without a dtype everything as it is.

    A matrix to which something is added is new, and as wide as is asked for; float8 ones are e4m3.
    """
    made = []
    for name, kind in dtypes(component, tensors, Precision.of(dtype, torch.device("cpu"))).items():
        source = tensors[name]
        narrow = source.dtype not in FLOAT8_KINDS and source.dtype.itemsize < kind.itemsize and not source.added
        if dtype is None or narrow:
            kind = source.dtype
        made.append(entry(name, tensors, FLOAT8 if source.added and kind in FLOAT8_KINDS else kind))
    return made


def entry(name: str, tensors: Tensors, dtype: torch.dtype) -> Entry:
    """What is written of one of a component's tensors, in a dtype; of a float8 matrix its scale too."""
    source = tensors[name]
    scaled = dtype in FLOAT8_KINDS and name.endswith(".weight")
    scale: Any = ((name + SCALE, torch.float32, ()),) if scaled else ()
    return Entry(
        ((name, dtype, source.shape), *scale), partial(pieces, source, tensors.get(name + SCALE), dtype, scaled)
    )


def pieces(source: Stored, scale_of_source: Stored | None, dtype: torch.dtype, scaled: bool) -> Iterator[Tensor]:
    """A stored tensor in another dtype, flat, piece by piece; behind one that is `scaled` its scale, float32 [1].

    One to which something is added comes whole: it is of one layer.
    """
    held = source.dtype
    scale = read_scale(scale_of_source)
    if source.added:
        whole, _ = with_added(source, read(source), scale if held in FLOAT8_KINDS else None)
        if scaled:
            whole, scale = quantised(whole)
        yield whole.to(dtype).flatten()
        if scaled:
            yield scale.reshape(1)
        return
    if scaled and held not in FLOAT8_KINDS:
        largest = [piece.abs().amax() for piece in chunks(source, CHUNK)]
        scale = scale_of(torch.stack(largest).amax())
    for piece in chunks(source, CHUNK):
        if dtype == held:
            yield piece
        elif scaled:
            yield to_float8(piece, scale)
        else:
            yield widened(piece, scale, dtype) if held in FLOAT8_KINDS else piece.to(dtype)
    if scaled:
        yield scale.reshape(1)


def convert(
    opened: Opened, out: Path, dtype: torch.dtype | None = None, shard: int = SHARD, progress: bool = True
) -> None:
    """Writes a checkpoint folder of our own from a model in any format; its LoRAs are merged, and in its metadata.

    Args:
        out: the new folder.
        dtype: as in `Precision.of`, of what is written; None: each tensor as it is stored.
        shard: bytes of a file, at most, unless one tensor is larger.

    Raises:
        ValueError: `out` is there already, a source is damaged, the disk is too small or cannot be written to.
    """
    tokenizer = None
    if opened.tokenizer is not None or "understanding" in opened.components:
        tokenizer = open_tokenizer(opened.tokenizer)  # says what is missing
    written = {component: entries(component, tensors, dtype) for component, tensors in opened.components.items()}
    sources = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in opened.files]
    sources += [[str(file.resolve()), strength] for file, strength in opened.loras.items()]
    names = told_apart(opened.files)
    stopped = threading.Event()
    with ThreadPoolExecutor(1) as beside:
        hashes = {file: beside.submit(sha256, file, stopped.is_set) for file in names}

        def about() -> dict[str, Any]:
            made_of = {name: hashes[file].result() for file, name in names.items() if file not in opened.loras}
            return {"sources": made_of} | merged_loras(opened, lambda file: hashes[file].result())

        try:
            write_checkpoint(
                out, written, opened.config, tokenizer, shard=shard, sources=sources, about=about, progress=progress
            )
        finally:
            stopped.set()


def merged_loras(opened: Opened, digest: Callable[[Path], str] = sha256) -> dict[str, Any]:
    """{"loras": what a model's metadata says of LoRAs that are merged into its weights: those that were before, and
    those that it was opened with}; nothing where there are none.

    Args:
        digest: gives the SHA-256 of a file.

    Raises:
        ValueError: a file is gone.
    """
    names, before = told_apart(opened.files), opened.config.metadata.get("loras", [])
    found = [merged(file, strength, names[file], digest(file)) for file, strength in opened.loras.items()]
    both = [*(before if isinstance(before, list) else [before]), *found]
    return {"loras": both} if both else {}


def told_apart(files: list[Path]) -> dict[Path, str]:
    """The shortest end of each path that no other file has: whole paths would say where a person keeps them."""
    ends = {file: [file.parts[-n:] for n in range(1, len(file.parts) + 1)] for file in files}
    owners = Counter(end for own in ends.values() for end in own)
    return {file: "/".join(next((end for end in own if owners[end] == 1), file.parts)) for file, own in ends.items()}
