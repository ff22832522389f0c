"""The file that says what a folder of drawn pictures was made with; it keeps two runs from mixing in one folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ... import __version__
from ...files.convert import told_apart
from ...files.tensor_files import sha256
from ...pipeline import LightBagel
from ..bench import Files
from ..writing import write_whole
from .presets import Drawing

FILE = "run.json"
SCRATCH = ".drawing"  # the folder, below the output folder, of locks and of what is being written
LIBRARIES = ("torch", "transformers", "diffusers", "safetensors", "pillow", "numpy")


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _hashes(files: Mapping[str, Path], known: Mapping[str, Any]) -> dict[str, Any]:
    """The size, time and checksum of each file; a checksum that is known for the same size and time is taken over."""
    found = {}
    for name, file in files.items():
        stamp, before = _stamp(file), known.get(name, {})
        same = before.get("stamp") == stamp
        found[name] = {"stamp": stamp, "sha256": before["sha256"] if same else sha256(file)}
    return found


def model_files(model: LightBagel) -> dict[str, Path]:
    """The files that a model's weights come from, by the shortest name that tells them apart."""
    opened = model.residency.opened if model.residency is not None else None
    return {} if opened is None else {name: file for file, name in told_apart(opened.files).items()}


def describe_run(model: LightBagel, asked: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded of a run: what its pictures depend on in `made_with`, the rest beside it.

    Args:
        asked: bench, its prompt file's checksum, settings; as JSON can say it.
        known: an earlier record, whose checksums of unchanged files are taken over.
    """
    threads = torch.get_num_threads()
    before = known.get("made_with", {}).get("model", {}).get("files", {})
    return {
        "made_with": {
            **asked,
            "model": {
                "name": model.config.name,
                "dtype": str(model.gen.dtype).removeprefix("torch."),
                "defaults": asdict(model.config.defaults),
                "files": _hashes(model_files(model), before),
            },
        },
        "on": {"device": str(model.device), "threads": threads, "machine": platform.machine(), "system": os.name},
        "versions": {"lightbagel": __version__, "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
        "metadata": model.config.metadata,
    }


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two records differ, as `settings.steps: 20 and 50`; times of files are no difference."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return [
            line
            for key in sorted({*one, *other})
            if key != "stamp"
            for line in _differences(one.get(key), other.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if one == other else [f"{path}: {one} and {other}"]


def prompts_hash(prompts: Path, out: Path) -> str:
    """The checksum of a prompt file, or of the names and contents of a folder's files; where `out` lies below that
    folder, without the files there.
    """
    if prompts.is_file():
        return sha256(prompts)
    drawn = out.resolve() if out.resolve().is_relative_to(prompts.resolve()) else None
    digest = hashlib.sha256()
    for file in sorted(prompts.rglob("*")):
        name = file.relative_to(prompts)
        if file.is_file() and drawn not in file.resolve().parents and SCRATCH not in name.parts:
            digest.update(f"{name.as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def claim(out: Path, model: LightBagel, bench: str, files: Files, drawing: Drawing) -> None:
    """Writes the run file of a folder, or finds that the one that is there says the same.

    Raises:
        ValueError: the pictures there were made with something else, or the file is damaged.
    """
    file = out / FILE
    asked = {"bench": bench, "prompts": prompts_hash(files.prompts, out), "settings": drawing.to_dict()}
    try:
        (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"could not make the folder {out}: {error.strerror or error}") from None
    with FileLock(out / SCRATCH / "run.lock"):
        known: dict[str, Any] = {}
        if file.is_file():
            try:
                known = json.loads(file.read_text("utf-8"))
                before = known["made_with"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{file} is damaged ({error!r}); choose another folder, or delete this one") from None
        record = json.loads(json.dumps(describe_run(model, asked, known)))
        if not known:
            write_whole(file, json.dumps(record, indent=1).encode() + b"\n", out / SCRATCH)
        elif found := _differences(before, record["made_with"]):
            raise ValueError(
                f"{out} holds pictures of another run ({'; '.join(found[:4])}): choose another folder for these"
            )
