"""One stage: put together, trained from where it stands, and what came out written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..config import COMPONENTS, LightBagelConfig
from ..files.tensor_files import Tensors
from ..files.tokenizer import open_tokenizer
from .aside import aside
from .assembly import put_together
from .export import write_adapters, write_model
from .loading import Opening, find
from .looking import held_out_samples, validation
from .parallel import World
from .progress import device_rate
from .provenance import carried, record
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
        kind = torch.float32 if stage.precision == "float32" else torch.bfloat16
        rate = world.size * device_rate(world.device, kind) if work.flops else 0.0
        trainer = Trainer(work.recipe, module, stage, world, folder, rate, work.flops)
        trainer.validate = validation(work, module, trainer, samples, folder)
        if world.first and stage.validation.tracker != "none":
            run = folder.parent.resolve().name
            trainer.tracker = Tracker(stage.validation.tracker, PROJECT, f"{run} {stage.name}", asdict(stage), folder)
        if not trainer.run():
            return False
        with trainer.ema.swapped(module):
            took = trainer.step, trainer.seconds
            _write(work.opening, work.finish(work.opening.config), took, made, last)
    return True


def _write(opening: Opening, config: LightBagelConfig, took: tuple[int, float], made: Path, last: bool) -> None:
    """Writes the folder of what was trained, or, at a run's end, of the whole model. took: steps, and seconds."""
    stage, world = opening.stage, opening.world
    dtype: torch.dtype = getattr(torch, stage.output_dtype) if last else torch.float32
    names = {"fusion" if name == "context" else name for name in stage.train} | set(stage.model.fresh)
    trained = {name: opening.components[name] for name in COMPONENTS if name in names & opening.components.keys()}
    others: dict[str, Tensors] = {}
    if last and stage.output == "whole":
        others = find(replace(stage.model, fresh=()), [name for name in COMPONENTS if name not in trained]).components
    run = made.parent  # below which earlier stages have left theirs
    earlier = {part: of for part, of in others.items() if all(run in stored.file.parents for stored in of.values())}
    if trained:
        tokenizer = open_tokenizer(opening.opened.tokenizer) if "understanding" in trained | others else None
        known = carried(config.metadata, opening.opened.config_file, stage.model)
        done = record(stage.seed, stage.model.model, world.device, {stage.name: took})
        metadata = known | done | {"stages": known.get("stages", {}) | done["stages"]}
        base = {part: of for part, of in others.items() if part not in earlier}
        write_model(made, replace(config, metadata=metadata), trained, earlier, base, tokenizer, dtype, world.first)
    if adapters := {name: p for name, p in opening.trained().items() if "lora_" in name}:
        write_adapters(made, adapters, dtype, world.first)
