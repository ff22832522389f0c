"""One stage: put together, trained from where it stands, and what came out written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import COMPONENTS, LightBagelConfig
from ..files.tensor_files import Tensors
from ..files.tokenizer import open_tokenizer
from ..files.writer import put_in_place
from .adapters import about
from .aside import aside
from .assembly import put_together
from .export import Part, trained_loras, write_loras, write_model
from .journal import HELD_OUT
from .loading import Opening, find
from .looking import held_out_samples, validation
from .parallel import World, of_first
from .precisions import computed
from .progress import device_rate
from .provenance import asked, base, carried, origin, record
from .stages import Stage
from .trackers import Tracker
from .trainer import Trainer

PROJECT = "lightbagel"  # under which trackers list runs


def run_stage(stage: Stage, world: World, folder: Path, made: Path, last: bool) -> bool:
    """Trains a stage from where it stands, and writes what it made; whether it came to its end.

    Args:
        folder: of the stage. made: the checkpoint folder that is written at its end. last: whether it is the run's last
            stage, whose folder holds the whole model unless it is asked for less.

    Raises:
        ValueError: the model or the data cannot be opened, or the loss is no number.
    """
    trainer: Trainer | None = None

    @contextmanager
    def away() -> Iterator[None]:
        if trainer is None:
            yield
            return
        with aside(trainer.module, trainer.optimiser, trainer.ema.state().values(), world.device):
            yield

    with ExitStack() as stack:
        work = put_together(stage, world, folder, away, stack)
        samples = held_out_samples(work)
        module = work.opening.ready(work.recipe.module, work.recipe.units)
        rate = world.size * device_rate(world.device, computed(stage)) if work.flops else 0.0
        trainer = Trainer(work.recipe, module, stage, world, folder, rate, work.flops)
        trainer.validate = validation(work, module, trainer, samples, folder)
        if world.first and stage.validation.tracker != "none":
            run = folder.parent.resolve().name
            trainer.tracker = Tracker(stage.validation.tracker, PROJECT, f"{run} {stage.name}", asdict(stage), folder)
        if not trainer.run():
            return False
        said: dict[str, Any] = {"config": asked(work.opening.stage)} | ({"data": list(work.data)} if work.data else {})
        if stage.output_from == "best":
            said["best"] = dict(zip(("step", HELD_OUT), trainer.take_best(), strict=True))
        with trainer.ema.swapped(module):
            took, trained = (trainer.step, trainer.seconds), work.opening.trained()  # before `finish` freezes it
            _write(work.opening, work.finish(work.opening.config), trained, took, said, made, last)
    return True


def _write(
    opening: Opening,
    config: LightBagelConfig,
    trained: Mapping[str, Tensor],
    took: tuple[int, float],
    said: Mapping[str, Any],
    made: Path,
    last: bool,
) -> None:
    """Writes the folder of what was trained, or, at a run's end, of the whole model; it is there when all of it is.

    LoRAs are merged into what a later stage begins with, and into a whole model; they are files of their own, too.

    Args:
        took: steps, and seconds. said: what else the metadata says of the stage.
    """
    stage, world = opening.stage, opening.world
    dtype: torch.dtype = getattr(torch, stage.output_dtype) if last else torch.float32
    run = made.parent  # below which earlier stages have left theirs, if this is the last
    loras = trained_loras(trained, {name: of["alpha"] for name, of in about(stage.lora).items()})
    merged = loras if stage.output == "whole" or not last else {}

    def casts(tensors: Tensors) -> bool:
        return last and all(run in stored.file.parents for stored in tensors.values())

    files = opening.opened.components
    parts = {
        name: Part.of(module, trained.values(), files.get(name, {}), casts(files.get(name, {})), merged.get(name, {}))
        for name, module in opening.components.items()
    }
    parts = {name: part for name, part in parts.items() if part.own or part.merged}
    if last and stage.output == "whole":
        others = [name for name in COMPONENTS if name not in parts]
        found = find(replace(stage.model, fresh=()), others).components
        parts |= {name: Part({}, found[name], casts(found[name])) for name in others if name in found}
    tokenizer = open_tokenizer(opening.opened.tokenizer) if "understanding" in parts else None
    known = carried(config.metadata, opening.opened.config_file, stage.model)
    out = run if last else run.parent
    done = record(stage.seed, origin(stage.model, out), world.device, {stage.name: took})
    stages = known.get("stages", {}) | {stage.name: done["stages"][stage.name] | said}
    metadata = known | done | {"stages": stages}
    hidden = made.with_name(f".{made.name}.unfinished")
    if world.first:
        shutil.rmtree(hidden, ignore_errors=True)
    write_model(hidden, replace(config, metadata=metadata), parts, tokenizer, dtype, world.first)
    if world.first:
        abouts = {
            name: {**of, "base": base(stage.model, opening.opened, name), **said, **done}
            for name, of in about(stage.lora).items()
        }
        write_loras(hidden, loras, abouts, dtype)
    of_first(lambda: put_in_place(made, hidden))  # and no process goes on to the next stage before
