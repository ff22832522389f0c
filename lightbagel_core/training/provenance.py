"""Where a trained model comes from, as the metadata of its checkpoint says it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..config import COMPONENTS, NANO
from .stages import Model


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
        started_from: the checkpoint whose weights came first; None: nothing.
        stages: of each, by name, its steps and the seconds they took.
    """
    return {
        "seed": seed,
        "started_from": started_from or "nothing",
        "hardware": hardware(device),
        "torch": torch.__version__,
        "stages": {name: {"steps": n, "minutes": round(seconds / 60, 1)} for name, (n, seconds) in stages.items()},
    }
