"""What would stop a training hours later, said before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from . import optimisers, trackers
from .adapters import check_peft
from .curves import check_matplotlib
from .data.store import pyarrow
from .stages import Lora, Stage
from .validation import check_suites


def check(stages: Sequence[Stage]) -> None:
    """Raises ValueError where a library is not installed that a stage needs, or what it makes could not be used."""
    check_matplotlib()
    for number, stage in enumerate(stages):
        if stage.lora.by_component():
            _check_begun_once(stage, stages[:number])
            check_peft()
        if any(asked.kind == "store" for asked in stage.data.sets):
            pyarrow()
        optimisers.make(stage.optimiser, [torch.zeros(1)])
        if stage.validation.tracker != "none":
            trackers.library(stage.validation.tracker)
        if stage.validation.suites:
            check_suites()


def _check_begun_once(stage: Stage, earlier: Sequence[Stage]) -> None:
    """Refuses a LoRA that would be added to weights into which an earlier stage has merged it."""
    for name, lora in stage.lora.by_component().items():
        for before in earlier:
            if lora.file is not None and before.lora.by_component().get(name, Lora()).file == lora.file:
                raise ValueError(
                    f"the stage {stage.name} would go on from {lora.file} as {before.name} does, whose result, that "
                    f"LoRA merged, is what {stage.name} begins with: say lora.{name}.file for one of them, as "
                    f"stages.{before.name}.lora.{name}.file"
                )
