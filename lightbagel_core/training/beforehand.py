"""What would stop a training hours later, said before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from . import optimisers, trackers
from .adapters import check_peft
from .curves import check_matplotlib
from .stages import Stage
from .validation import check_suites


def check(stages: Sequence[Stage]) -> None:
    """Raises ValueError where a library is not installed that a stage needs, or what it makes could not be used."""
    check_matplotlib()
    for number, stage in enumerate(stages):
        if stage.lora.generation.rank or stage.lora.fusion.rank:
            _check_adapters(stage, stages[number + 1 :])
            check_peft()
        optimisers.make(stage.optimiser, [torch.zeros(1)])
        if stage.validation.tracker != "none":
            trackers.library(stage.validation.tracker)
        if stage.validation.suites:
            check_suites()


def _check_adapters(stage: Stage, later: Sequence[Stage]) -> None:
    """Until adapters can be merged into the weights that they stand beside."""
    if later:
        raise ValueError(
            f"the stage {stage.name} trains adapters (lora), and {later[0].name} would begin without them: they "
            "cannot be merged yet, so have it be the last stage"
        )
    if stage.output == "whole":
        raise ValueError(
            f"the stage {stage.name} trains adapters (lora), which cannot be merged into a whole model yet: with "
            'output = "trained" they come out as a file of their own'
        )
