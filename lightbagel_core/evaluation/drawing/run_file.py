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
from ...files.writing import write_whole
from ...pipeline import LightBagel
from ..bench import Files
from ..scores import RUN_FILE
from .presets import Drawing

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


def made_with(model: LightBagel, asked: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's pictures depend on; "loras" only where there are any, as in records before there were some.

    Args:
        asked: bench, its prompt file's checksum, settings; as JSON can say it.
        before: an earlier record, whose checksums of unchanged files are taken over.
    """
    return {
        **asked,
        "model": {
            "name": model.config.name,
            "dtype": str(model.gen.dtype).removeprefix("torch."),
            "defaults": asdict(model.config.defaults),
            **({"loras": model.loras} if model.loras else {}),
            "files": _hashes(model_files(model), before.get("model", {}).get("files", {})),
        },
    }


def done_on(model: LightBagel) -> dict[str, Any]:
    """Where, with what libraries and how a process draws: what may change a rounding, and no more."""
    return {
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "system": os.name,
        "attention": str(model.attention.backend.value),
        "compiled": model.compiled,
        "offload": model.residency.offload if model.residency is not None else None,
        "versions": {"lightbagel": __version__, "python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES},
    }


def read_run(out: Path) -> dict[str, Any] | None:
    """A folder's run file; None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    file = out / RUN_FILE
    try:
        record = json.loads(file.read_text("utf-8"))
        made = record["made_with"]
        sound = isinstance(record["done_on"], list) and isinstance(made["settings"]["asked"], dict)
        files = made["model"]["files"].values()
        sound = sound and all(isinstance(one["sha256"], str) and isinstance(one["stamp"], list) for one in files)
        sound = sound and isinstance(made["bench"], str) and isinstance(made["prompts"], str)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise ValueError(
            f"{file} is damaged, so that nothing says what the pictures there were made with: choose another folder"
        )
    return dict(record)


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

    The folder of source pictures is known by its name alone, so that it may be repaired, and lie elsewhere.

    Raises:
        ValueError: the pictures there were made with something else, or the file is damaged.
    """
    asked = {
        "bench": bench,
        "prompts": prompts_hash(files.prompts, out),
        "images": None if files.images is None else files.images.resolve().name,
        "settings": drawing.to_dict(),
    }
    try:
        (out / SCRATCH).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"could not make the folder {out}: {error.strerror or error}") from None
    with FileLock(out / SCRATCH / "run.lock"):
        known = read_run(out)
        before = known["made_with"] if known else {}
        made, on = json.loads(json.dumps([made_with(model, asked, before), done_on(model)]))
        if found := _differences(before, made) if known else []:
            raise ValueError(
                f"{out} holds pictures of another run ({'; '.join(found[:4])}): choose another folder for these"
            )
        on_before = known["done_on"] if known else []
        if on not in on_before:
            record = {"made_with": made, "done_on": [*on_before, on], "metadata": model.config.metadata}
            write_whole(out / RUN_FILE, json.dumps(record, indent=1).encode() + b"\n", out / SCRATCH)


def check_drawn(out: Path, bench: str, files: Files) -> None:
    """Finds that a folder's pictures are those of a bench and its prompts, as far as its run file tells.

    Raises:
        ValueError: they are not, or there is no such folder.
    """
    if not out.is_dir():
        raise ValueError(f"there is no folder {out} with pictures; `lightbagel bench generate` makes it")
    if (record := read_run(out)) is None:
        return
    made = record["made_with"]
    if made["bench"] != bench:
        raise ValueError(f"{out} holds the pictures of {made['bench']}, not of {bench}")
    if made["prompts"] != prompts_hash(files.prompts, out):
        raise ValueError(f"the pictures in {out} were drawn from other prompts than {files.prompts}: name those")
