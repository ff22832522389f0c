"""The loop of one stage: forward, backward, one step of the optimiser; what is kept, watched and shown on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from . import optimisers
from .aside import aside
from .checkpoints import Checkpoints
from .curves import check_matplotlib, write_curves
from .ema import Ema
from .journal import FILE, HELD_OUT, Journal, Kind, Record
from .parallel import World, agree, all_sum, autocast, clip, of_first, syncing
from .progress import Progress, device_gb
from .seeds import Stream, generator, of_stage
from .signals import Stopping
from .stages import Stage
from .trackers import Tracker
from .watch import Watch

CURVES = "curves.png"


class Recipe(Protocol):
    """What is trained, and the loss of a step."""

    @property
    def module(self) -> nn.Module:
        """All of it as one module, which the engine may wrap."""

    @property
    def units(self) -> Sequence[nn.Module]:
        """What of it is sharded on its own; a pass calls each equally often on every process."""

    def trained(self) -> Mapping[str, nn.Parameter]:
        """What is trained, by component and name: "fusion.layers.0.gen_q.weight"."""

    def passes(self, step: int) -> Sequence[Any]:
        """What this process sends through the module in a step; equally many on every process."""

    def loss(self, module: nn.Module, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """(This pass's share of the step's loss: all passes of all processes add up to it; figures to be recorded, each
        a sum and a count, [2], the same ones in every pass.)

        Args:
            module: `self.module` as the engine wraps it.
        """

    def tokens(self, step: int) -> int:
        """What a step learns from, over all processes, in tokens."""

    def named(self, step: int) -> list[str]:
        """What a step's batch is made of, for a person who looks for a damaged sample."""


class Validate(Protocol):
    """What is looked at on the way."""

    def due(self, step: int, last: bool = False) -> bool:
        """Whether anything is looked at after so many steps; last: no step follows."""

    def __call__(self, step: int, last: bool = False) -> Mapping[str, Any]:
        """Its figures for the record; every process must call it."""


class Trainer:
    """One stage's training, from wherever its latest checkpoint stands.

    `validate` and `tracker` may be set before it runs.

    Args:
        recipe: what is trained, its weights already in place.
        module: the recipe's module as the engine wraps it.
        folder: of the stage; checkpoints and the record lie in it.
        rate: FLOP/s that all devices reach together; 0: not known. flops: of a step, all devices together.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        stage: Stage,
        world: World,
        folder: Path,
        rate: float = 0.0,
        flops: float = 0.0,
    ) -> None:
        self.recipe, self.module, self.stage, self.world, self.folder = recipe, module, stage, world, folder
        self.validate: Validate | None = None
        self.rate, self.flops = rate, flops
        self.trained: Mapping[str, nn.Parameter] = recipe.trained()
        self.optimiser = optimisers.make(stage.optimiser, self.trained.values())
        self.ema = Ema(self.trained, stage.ema)
        self.checkpoints = Checkpoints(folder / "checkpoints", stage.checkpoints.keep, asdict(stage))
        self.watch = Watch(stage.leap)
        self.step, self.seconds = 0, 0.0
        self.tracker: Tracker | None = None
        check_matplotlib()
        latest = self.checkpoints.latest()
        if latest is not None:
            self._load(latest)

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        found = {f"weight.{name}": weight.detach() for name, weight in self.trained.items()}
        return found | {f"ema.{name}": average for name, average in self.ema.state().items()}

    def _load(self, step: int) -> None:
        moments = optimisers.moments(self.optimiser, self.trained)
        self.checkpoints.load(step, self._weights() | moments)
        optimisers.restore(self.optimiser, self.trained, moments)
        self.step, self.seconds = step, self.checkpoints.note(step)["seconds"]

    def take_best(self) -> tuple[int, float]:
        """Puts the weights and averages of the best checkpoint in place of the last step's; (its step, its held-out
        loss). Nothing is to be trained any more then.

        Raises:
            ValueError: no checkpoint has a held-out loss.
        """
        best = of_first(self.checkpoints.best)
        if best is None:
            raise ValueError(
                'no checkpoint has a held-out loss: with output_from = "last" the weights of the last step come out'
            )
        done = self.step, self.seconds
        self._load(best[0])
        self.step, self.seconds = done
        return best

    def save(self, asynchronous: bool = True, value: float | None = None) -> None:
        """Keeps the present step: weights, averages, the optimiser's moments. value: its held-out loss."""
        held = self._weights() | optimisers.moments(self.optimiser, self.trained)
        self.checkpoints.save(self.step, held, self.seconds, asynchronous, value)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self, until: int | None = None) -> bool:
        """Trains up to the stage's last step, or `until`; whether it came to the stage's end.

        SIGTERM ends it after the present step, with a checkpoint.

        Raises:
            ValueError: the loss is no number, or leaps; the message names the step and its samples.
        """
        end = self.stage.steps if until is None else min(until, self.stage.steps)
        journal = Journal(self.folder / FILE, self.step) if self.world.first else None
        bar = Progress(self.stage.steps, self.step, self.rate, shown=self.world.first)
        try:
            with Stopping() as stopping, bar:
                if journal is not None:
                    journal.write("start", self.step, processes=self.world.size)
                    if journal.note:
                        bar.say(journal.note)
                self._look(journal, bar)
                while self.step < end and not agree(stopping.asked):
                    figures = self._one_step()
                    tokens, memory = self.recipe.tokens(self.step - 1), device_gb(self.world.device)
                    figures |= bar.update(figures["loss"], tokens, self.flops, memory)
                    if journal is not None:
                        self._say(journal, bar, "step", figures)
                        self.seconds = journal.seconds
                    self._look(journal, bar)
                    if self.step % self.stage.checkpoints.every == 0:
                        with bar.paused():
                            self.save()
                self.save(asynchronous=False)
        except BaseException:
            with suppress(ValueError, RuntimeError):  # what went wrong first is what is said
                self.checkpoints.wait()
            raise
        finally:
            self._end(journal)
        return self.step >= self.stage.steps

    def _end(self, journal: Journal | None) -> None:
        try:
            if journal is not None:
                journal.write("stop", self.step)
                self._draw(journal)
        finally:
            if journal is not None:
                journal.close()
            if self.tracker is not None:
                self.tracker.finish()

    def _say(self, journal: Journal, bar: Progress, kind: Kind, figures: Mapping[str, Any]) -> None:
        journal.write(kind, self.step, **figures)
        if self.tracker is not None and (trouble := self.tracker.log(self.step, figures)):
            bar.say(trouble)

    def _draw(self, journal: Journal) -> None:
        write_curves(self.folder / CURVES, Record(journal.lines), self.stage.name)

    def _one_step(self) -> dict[str, float]:
        """One step of the optimiser, and its figures; nothing is changed where the loss is no number."""
        passes = self.recipe.passes(self.step)
        seed = of_stage(self.stage.seed, self.stage.name)
        torch.manual_seed(int(generator(seed, Stream.MODULES, self.step, self.world.rank).integers(2**62)))
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(passes):
            with syncing(self.module, last=number == len(passes) - 1):
                with autocast(self.stage, self.world):
                    loss, figures = self.recipe.loss(self.module, batch)
                (loss * self.world.size).backward()  # the engine takes the mean of the processes' gradients
            for name, pair in {"loss": torch.stack([loss.detach(), torch.ones_like(loss)]), **figures}.items():
                sums[name] = sums[name] + pair if name in sums else pair
        norm = float(clip(self.trained.values(), self.stage.optimiser.clip))
        of_all = all_sum(torch.stack(list(sums.values()))).tolist()
        found = {name: total / count for name, (total, count) in zip(sums, of_all, strict=True) if count}
        found["loss"] = of_all[0][0]  # of shares, which add up
        self.watch.look(self.step, found["loss"], norm, lambda: self.recipe.named(self.step))
        rate = optimisers.learning_rate(self.stage.optimiser, self.stage.steps, self.step)
        optimisers.set_learning_rate(self.optimiser, rate)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        self.ema.update(self.step)
        return {**found, "gradient_norm": norm, "lr": rate}

    def _look(self, journal: Journal | None, bar: Progress) -> None:
        """Validates where it is time and the record does not say it already."""
        last = self.step == self.stage.steps
        if self.validate is None or not self.validate.due(self.step, last):
            return
        if of_first(lambda: journal is not None and journal.has("validation", self.step)):
            return
        with bar.paused(), aside(nn.Identity(), self.optimiser, (), self.world.device):
            figures = self.validate(self.step, last)
        with bar.paused():
            if journal is not None:  # before the checkpoint: a run that goes on from one has its line
                self._say(journal, bar, "validation", figures)
                self._draw(journal)
            if HELD_OUT in figures and self.step:
                self.save(value=figures[HELD_OUT])
