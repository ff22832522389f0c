"""A whole training: stage after stage, each from what the one before it made, and the model that comes out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..config import COMPONENTS
from ..files import tensor_files
from ..files.formats import read_config
from .beforehand import check
from .claim import claim
from .going_on import resolved
from .loading import find
from .one_stage import run_stage
from .parallel import World, of_first, start, stop
from .stages import Stage

MODEL = "model"  # the folder of what a stage, or the whole run, made


def run(stages: Sequence[Stage], out: Path, resume: bool = False) -> bool:
    """Trains all stages; whether the run came to its end. What comes out lies in `out`/model.

    Args:
        out: the run's folder. resume: whether it may hold this run already, which then goes on.

    Raises:
        ValueError: the folder holds another run, the model or the data cannot be opened, a library is missing, or the
            loss is no number.
    """
    check(stages)
    stages = [_with_files(stage) for stage in stages]
    world = start(stages[0])
    with ExitStack() as ends:
        ends.callback(stop)
        of_first(lambda: ends.enter_context(claim(out, stages, resume)))
        for number, stage in enumerate(stages):
            last = number == len(stages) - 1
            made = (out if last else out / stage.name) / MODEL
            if of_first(partial(finished, stage, made, out, stages[number + 1 :])):
                continue
            world = start(stage)
            if not run_stage(following(stage, stages[:number], out), world, out / stage.name, made, last):
                _say(world, f"stopped in the stage {stage.name}; the same command with --resume goes on")
                return False
        _say(world, f"the model lies in {out / MODEL}")
        return True


def _with_files(stage: Stage) -> Stage:
    """A stage with all said of the LoRAs that it goes on from: so a file of another model is refused before the folder
    is claimed.
    """
    need = [name for name, lora in stage.lora.by_component().items() if lora.file is not None]
    return resolved(stage, find(stage.model, need).components) if need else stage


def finished(stage: Stage, made: Path, out: Path, later: Sequence[Stage]) -> bool:
    """Whether a stage has made its folder, and is not asked for more steps than it did.

    Raises:
        ValueError: it is asked for more and cannot go on: a later stage has begun with what it made, or its
            checkpoints are gone.
    """
    if not made.is_dir():
        return False
    done = read_config(made / "config.json").metadata.get("stages", {}).get(stage.name, {}).get("steps", stage.steps)
    if done >= stage.steps:
        return True
    asked = f"the stage {stage.name} ended after {done} steps and is asked for {stage.steps}"
    if begun := [other.name for other in later if (out / other.name).is_dir()]:
        raise ValueError(f"{asked}, but {begun[0]} began with what it made then: only a run's last stage can be longer")
    if not any((out / stage.name / "checkpoints").glob("step-*")):
        raise ValueError(f"{asked}, but its checkpoints are gone: ask for {done}, or begin in a new folder")
    return False


def following(stage: Stage, earlier: Sequence[Stage], out: Path) -> Stage:
    """A stage as it is after earlier ones: with the components that they trained, in which all LoRAs are merged."""
    model = stage.model
    for before in earlier:
        made = out / before.name / MODEL
        held = [component for component in COMPONENTS if tensor_files.find(made, component)]
        model = replace(
            model,
            **{component: str(made) for component in held},
            config=str(made / "config.json"),
            fresh=tuple(component for component in model.fresh if component not in held),
            tokenizer=str(made) if "understanding" in held else model.tokenizer,
            loras=tuple(
                replace(lora, components=tuple(component for component in lora.components if component not in held))
                for lora in model.loras
            ),
        )
    return replace(stage, model=model)


def _say(world: World, text: str) -> None:
    if world.first:
        print(f"lightbagel: {text}", file=sys.stderr)
