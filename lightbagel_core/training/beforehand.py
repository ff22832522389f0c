"""What would stop a training hours later, said before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..config import COMPONENTS
from . import optimisers, trackers
from .adapters import check_peft
from .curves import check_matplotlib
from .data.store import pyarrow
from .loading import find
from .stages import ALONE, Lora, Stage
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
    _check_whole(stages)


def _check_whole(stages: Sequence[Stage]) -> None:
    """Refuses a run that trains components alone and is to end in a whole model of which others lack."""
    last = stages[-1]
    if last.output != "whole" or any(stage.recipe not in ALONE for stage in stages):
        return  # the drawing recipe goes through all components
    made = {ALONE[stage.recipe] for stage in stages}
    try:
        find(replace(last.model, fresh=()), [name for name in COMPONENTS if name not in made])
    except ValueError as error:
        raise ValueError(f'a whole model is to come out, and {error}; or set output = "trained"') from None


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
