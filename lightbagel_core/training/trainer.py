"""The loop of one stage: forward, backward, one step of the optimiser; what is kept, watched and shown on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from . import optimisers
from .checkpoints import Checkpoints
from .config import Stage
from .ema import Ema
from .journal import Journal
from .parallel import World, agree, all_sum, autocast, clip, syncing
from .progress import Progress
from .recipe import Recipe
from .signals import Stopping
from .validation import Validation
from .watch import Watch

EVERY = 10  # steps a line of the record is the mean of


class Trainer:
    """One stage's training, from wherever its latest checkpoint stands.

    Args:
        recipe: what is trained, its weights already in place.
        module: the recipe's module as the engine wraps it.
        folder: of the stage; checkpoints and the record lie in it.
        flops: floating-point operations of a step on this process, as counted from shapes; 0: not known.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        stage: Stage,
        world: World,
        folder: Path,
        validation: Validation | None = None,
        flops: float = 0.0,
    ) -> None:
        self.recipe, self.module, self.stage, self.world, self.folder = recipe, module, stage, world, folder
        self.validation, self.flops = validation, flops
        self.trained: Mapping[str, Tensor] = recipe.trained()
        self.optimiser = optimisers.make(stage.optimiser, list(self.trained.values()))
        self.ema = Ema(self.trained, stage.ema)
        self.checkpoints = Checkpoints(folder / "checkpoints", stage.checkpoints.keep)
        self.watch = Watch(stage.leap)
        self.step, self.seconds = 0, 0.0
        self.journal = Journal(folder / "record.jsonl") if world.rank == 0 else None
        latest = self.checkpoints.latest()
        if latest is not None:
            self._load(latest)

    # --- what is kept ------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds."""
        found = {f"weight.{name}": weight.detach() for name, weight in self.trained.items()}
        found |= {f"ema.{name}": average for name, average in self.ema.state().items()}
        return found | optimisers.moments(self.optimiser, self.trained)

    def _load(self, step: int) -> None:
        optimisers.prepare(self.optimiser, self.trained)
        held = self.tensors()
        about = self.checkpoints.load(step, held)
        optimisers.restore(self.optimiser, self.trained, held)
        self.step, self.seconds = step, float(about["seconds"])

    def save(self, asynchronous: bool = True) -> None:
        self.checkpoints.save(self.step, self.tensors(), {"seconds": self.seconds}, asynchronous)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self, until: int | None = None) -> bool:
        """Trains up to the stage's last step, or `until`; whether it came to the stage's end.

        SIGTERM ends it after the present step, with a checkpoint.

        Raises:
            ValueError: the loss is no number, or leaps; the message names the step and its samples.
        """
        end = self.stage.steps if until is None else min(until, self.stage.steps)
        with Stopping() as stopping, Progress(self.stage, self.world, self.step, end, self.flops) as bar:
            if self.step == 0 and self.validation is not None:
                self._validate()
            while self.step < end and not agree(self.world, stopping.asked):
                began = time.monotonic()
                figures = self._one_step()
                self.seconds += time.monotonic() - began
                bar.told(figures, time.monotonic() - began)
                if self.journal is not None and (self.step % EVERY == 0 or self.step == end):
                    self.journal.add("step", step=self.step, seconds=round(self.seconds, 1), **bar.since())
                self._between()
            self.save(asynchronous=False)
        return self.step >= self.stage.steps

    def _one_step(self) -> dict[str, float]:
        """One step of the optimiser, and its figures; nothing is changed where the loss is no number."""
        passes = self.recipe.passes(self.step)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(passes):
            with syncing(self.module, last=number == len(passes) - 1), autocast(self.stage, self.world):
                loss, figures = self.recipe.loss(self.module, batch)
                (loss * self.world.size).backward()  # the engine takes the mean of the processes' gradients
            for name, pair in {"loss": torch.stack([loss.detach(), torch.ones_like(loss)]), **figures}.items():
                sums[name] = sums[name] + pair if name in sums else pair
        norm = float(clip(self.trained.values(), self.stage.optimiser.clip))
        of_all = all_sum(self.world, torch.stack(list(sums.values()))).tolist()
        found = {name: total / count for name, (total, count) in zip(sums, of_all, strict=True) if count}
        found["loss"] = of_all[0][0]  # it is a sum of shares
        self.watch(self.step, found["loss"], norm, lambda: self.recipe.named(self.step))
        rate = optimisers.learning_rate(self.stage.optimiser, self.stage.steps, self.step)
        optimisers.set_learning_rate(self.optimiser, rate)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        self.ema.update(self.step)
        return {**found, "norm": norm, "lr": rate}

    def _between(self) -> None:
        """What comes after some steps and not after others."""
        if self.validation is not None and self.validation.due(self.step):
            self._validate()
        if self.step % self.stage.checkpoints.every == 0:
            self.save()

    def _validate(self) -> None:
        assert self.validation is not None
        found = self.validation(self.step, self.module, self.ema)
        if self.journal is not None:
            self.journal.add("validation", step=self.step, **found)
        if "held_out" in found:
            self.checkpoints.mark_best(self.step, found["held_out"])
