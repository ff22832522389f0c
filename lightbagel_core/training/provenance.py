"""Where a trained model comes from, as the metadata of its checkpoint says it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch


def hardware(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"


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
