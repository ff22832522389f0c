"""Small trainings of the shipped nano, through the same doors as any other."""

from __future__ import annotations

from pathlib import Path

from lightbagel_core.training.config_file import read
from lightbagel_core.training.stages import Stage

CONFIG = """
seed = 1
device = "cpu"
base = "float32"
precision = "float32"
checkpointing = false
train = ["fusion", "context"]
[model]
model = "nano"
fresh = ["fusion"]
[optimiser]
eps = 1e-8
lr = 1e-3
warmup = 2
[ema]
decay = 0.5
[batch]
samples = 3
[checkpoints]
every = 2
"""
ROLLING = ("cache.states=rolling", "cache.samples=4", "cache.chunks=2", "cache.renew=2")


def stages(folder: Path, *overrides: str, more: str = "") -> list[Stage]:
    """The stages of `CONFIG` with overrides; `more` is TOML that is added at its end."""
    file = folder / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(CONFIG + more, "utf-8")
    return read(file, overrides)
