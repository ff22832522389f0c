"""A whole training: stage after stage, each from what the one before it made, and the model that comes out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..config import COMPONENTS
from .claim import claim
from .one_stage import run_stage
from .parallel import World, agree, start, stop
from .stages import Stage

MODEL = "model"  # the folder of what a stage, or the whole run, made


def run(stages: Sequence[Stage], out: Path, resume: bool = False) -> bool:
    """Trains all stages; whether the run came to its end. What comes out lies in `out`/model.

    Args:
        out: the run's folder. resume: whether it may hold this run already, which then goes on.

    Raises:
        ValueError: the folder holds another run, the model or the data cannot be opened, or the loss is no number.
    """
    world = start(stages[0])
    try:
        if world.first:
            claim(out, stages, resume)
        for number, stage in enumerate(stages):
            agree(False)  # nobody looks for what the first process is still writing
            last = number == len(stages) - 1
            made = out / MODEL if last else out / stage.name / MODEL
            if made.is_dir():
                continue
            world = start(stage)
            if not run_stage(following(stage, stages[:number], out), world, out / stage.name, made, last):
                _say(world, f"stopped in the stage {stage.name}; the same command with --resume goes on")
                return False
        _say(world, f"the model lies in {out / MODEL}")
        return True
    finally:
        stop()


def following(stage: Stage, earlier: Sequence[Stage], out: Path) -> Stage:
    """A stage as it is after earlier ones: with the components that they trained."""
    model = stage.model
    for before in earlier:
        made = out / before.name / MODEL
        held = [component for component in COMPONENTS if any(made.glob(f"{component}*.safetensors"))]
        model = replace(
            model,
            **{component: str(made) for component in held},
            config=str(made / "config.json"),
            fresh=tuple(component for component in model.fresh if component not in held),
            tokenizer=str(made) if "understanding" in held else model.tokenizer,
        )
    return replace(stage, model=model)


def _say(world: World, text: str) -> None:
    if world.first:
        print(f"lightbagel: {text}", file=sys.stderr)
