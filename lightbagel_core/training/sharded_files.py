"""Tensors to and from a folder of safetensors files, each process its part, by torch's distributed checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

try:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_loader import load
    from torch.distributed.checkpoint.state_dict_saver import async_save, save
except ImportError:
    raise ImportError(f"training needs torch 2.9 or newer; this is {torch.__version__}") from None

# What `_alone` asks for; in the thread that saves no other way of ignoring a warning would reach it.
warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)

NAMED = 8  # differences that an error lists


class Failed(Exception):
    """A process could not write; the message says why. All processes get it."""


def write(
    folder: Path, tensors: Mapping[str, Tensor], group: Any, finished: Callable[[], None], asynchronous: bool
) -> Future[Any] | None:
    """Writes tensors of the same names on all processes; gives what `finish` waits for, if asynchronously.

    Args:
        group: of processes, whose backend is gloo.
        finished: called on one process when all have written, in another thread where asynchronous.

    Raises:
        Failed: a process could not write, or writes where the first one does not see it.
    """
    state = {name: tensor.detach() for name, tensor in tensors.items()}
    writer = _writer(folder, finished)
    how: Any = {"storage_writer": writer, "process_group": group, "no_dist": _alone(group)}
    try:
        if asynchronous:
            future: Any = async_save(state, **how)
            return future
        save(state, **how)
    except (CheckpointException, OSError) as error:
        raise Failed(_cause(error)) from None
    return None


def finish(future: Future[Any]) -> None:
    """Returns when an asynchronous write has ended.

    Raises:
        Failed: as for `write`.
    """
    try:
        future.result()
    except (CheckpointException, OSError) as error:
        raise Failed(_cause(error)) from None


def read(folder: Path, tensors: Mapping[str, Tensor], group: Any) -> None:
    """Fills tensors in place, sharded among any number of processes.

    Raises:
        ValueError: the files are damaged, or hold other names, shapes or dtypes, which are named; nothing is filled.
    """
    reader = HuggingFaceStorageReader(str(folder))
    try:
        saved = reader.read_metadata().state_dict_metadata
    except Exception as error:  # safetensors' and json's own kinds
        raise ValueError(f"the checkpoint {folder} is damaged: {error}; go on from an earlier one") from None
    wrong = _differences(saved, tensors)
    if wrong:
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(f"the checkpoint {folder} does not fit this training: {'; '.join(wrong[:NAMED])}{more}")
    state = {name: tensor.detach() for name, tensor in tensors.items()}
    try:
        load(state, storage_reader=reader, process_group=group, no_dist=_alone(group))
    except CheckpointException as error:
        raise ValueError(f"the checkpoint {folder} cannot be read: {_cause(error)}; take an earlier one") from None


def _writer(folder: Path, finished: Callable[[], None]) -> HuggingFaceStorageWriter:
    class Writer(HuggingFaceStorageWriter):
        def finish(self, metadata: Any, results: Any) -> None:
            names = {result.storage_data.relative_path for part in results for result in part}
            unseen = sorted(name for name in names if not (folder / name).is_file())
            if unseen:
                raise OSError(f"{', '.join(unseen)} were written on another machine; use a folder that all of them see")
            super().finish(metadata, results)
            finished()

    return Writer(str(folder), save_distributed=True)


def _alone(group: Any) -> bool:
    """Whether there is one process, which has nobody to speak to.

    Would it, gloo would start threads that stay, and on a CPU those that train would wait for each other in a slower
    way from then on: that costs a small model a quarter of its speed.
    """
    return dist.get_world_size(group) == 1


def _cause(error: BaseException) -> BaseException:
    """What went wrong on the first process where something did."""
    failures = list(error.failures.values()) if isinstance(error, CheckpointException) else []
    return failures[0][0] if failures else error


def _differences(saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    wrong = [f"it lacks {name}" for name in sorted(tensors.keys() - saved.keys())]
    wrong += [f"it has {name}, which is not trained here" for name in sorted(saved.keys() - tensors.keys())]
    for name in sorted(saved.keys() & tensors.keys()):
        here, there = tensors[name], saved[name]
        if tuple(there.size) != tuple(here.shape):
            wrong.append(f"{name} is {list(there.size)}, here {list(here.shape)}")
        elif there.properties.dtype != here.dtype:
            wrong.append(f"{name} is {there.properties.dtype}, here {here.dtype}")
        elif sum(chunk.sizes.numel() for chunk in there.chunks) != here.numel():
            wrong.append(f"{name} is there in part only: a file is missing")
    return wrong
