"""Where a trained model comes from, as the metadata of its checkpoint says it."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import COMPONENTS, NANO
from ..files.formats import Opened
from ..files.precision import is_scale
from .stages import Edit, Model

# keys of a stage whose values are paths, or may be
PATHS = {*COMPONENTS, "model", "tokenizer", "config", "file", "path", "folder"}


def hardware(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"


def carried(metadata: Mapping[str, Any], config_file: Path, model: Model) -> dict[str, Any]:
    """What of the metadata in the config that a stage began with is true of what it makes.

    Of a model that training starts from it is history, and goes under "before". After an earlier stage of the same run
    it goes on. From a config that no weights came with only numbers were taken: none.
    """
    folder = config_file.resolve().parent
    if folder == _place(model.model):
        return {"before": dict(metadata)} if metadata else {}
    return dict(metadata) if folder in {_place(getattr(model, name)) for name in COMPONENTS} else {}


def _place(said: str | None) -> Path | None:
    return None if said is None else NANO.resolve() if said == "nano" else Path(said).resolve()


def record(
    seed: int, started_from: str | None, device: torch.device, stages: Mapping[str, tuple[int, float]]
) -> dict[str, Any]:
    """The metadata of a trained model.

    Args:
        started_from: in words, what the run's weights came from; None: nothing.
        stages: of each, by name, its steps and the seconds they took.
    """
    return {
        "seed": seed,
        "started_from": started_from or "nothing",
        "hardware": hardware(device),
        "torch": torch.__version__,
        "stages": {name: {"steps": n, "minutes": round(seconds / 60, 1)} for name, (n, seconds) in stages.items()},
    }


def name_of(path: str) -> str:
    """What a path may be called where others read it: its last name, and before "model" that of the run or stage."""
    parts = [part for part in re.split(r"[/\\]", path) if part not in ("", ".", "..")]
    return "/".join(parts[-2 if parts[-1:] == ["model"] else -1 :]) or path


def origin(model: Model, out: Path | None = None) -> str | None:
    """What a stage's model is put together from, in words; None: nothing.

    Args:
        out: the run's folder, to leave out what earlier stages of the run have made.
    """
    named = {component: getattr(model, component) for component in COMPONENTS}
    parts = [] if model.model is None else [name_of(model.model)]
    parts += [
        f"{component} of {name_of(path)}"
        for component, path in named.items()
        if path is not None and (out is None or out not in Path(path).parents)
    ]
    parts += [f"{name_of(lora.file)} at strength {lora.strength:g}" for lora in model.loras]
    return ", ".join(parts) or None


def base(model: Model, opened: Opened, component: str) -> dict[str, Any]:
    """What a LoRA's file says of the component that it was trained on. Files are told by their names and bytes: to read
    ten gigabytes for a checksum would take minutes.
    """
    tensors = opened.components.get(component, {})
    files = sorted({stored.file for stored in tensors.values()})
    return {
        "name": opened.config.name,
        "started_from": origin(model) or "nothing",
        "files": {file.name: file.stat().st_size for file in files},
        "parameters": sum(math.prod(stored.shape) for name, stored in tensors.items() if not is_scale(name, tensors)),
    }


def asked(told: Any) -> Any:
    """What a stage, or a part of one, says that is not its default; paths as names alone."""
    if isinstance(told, tuple):
        return [asked(one) for one in told]
    if not is_dataclass(told):
        return told
    found: dict[str, Any] = {}
    for field in fields(told):
        value = getattr(told, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if value == default:
            continue
        is_path = isinstance(value, str) and (
            field.name in PATHS or (isinstance(told, Edit) and field.name == "source")
        )
        found[field.name] = name_of(value) if is_path else asked(value)
    return found
