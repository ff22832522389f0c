"""Validation while training runs, of averaged weights: the held-out loss, pictures to look at, the nano's suites."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..pipeline import LightBagel
from .curves import SUITES, check_matplotlib
from .held_out import HeldOut, added, evaluating, place
from .journal import HELD_OUT
from .stages import Validation as Asked
from .validation_pictures import Wish, draw, gathered, wishes_of, write_samples

SAMPLES = "samples"  # the folder of sheets, below a stage's own

Swapped = Callable[[], AbstractContextManager[Any]]
Whole = Callable[[nn.Module], AbstractContextManager[Any]]


def unchanged(module: nn.Module) -> AbstractContextManager[Any]:
    """For weights that lie whole in every process anyway."""
    return nullcontext()


def check_suites() -> None:
    """Raises ValueError where scipy, which reads the suites' pictures, is not installed."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise ValueError(
            "the nano's suites need scipy: pip install 'lightbagel[bench]', or validation.suites=0"
        ) from None


class Validation:
    """Validates a stage, on all processes together: each of them makes one and calls it at the same steps.

    Args:
        asked: what is validated, and how often.
        model: of the very modules that train, with the attention that they train with; None where there is nothing to
            draw, and no suite.
        module: what trains, as the engine wraps it.
        folder: the stage's own.
        title: the stage's name, for the sheets.
        held_out: None: no held-out loss.
        swapped: puts averaged weights in place of the trained ones, and those back.
        whole: makes the sharded tensors of `module` whole, and sharded again.
        computing: the autocast that training computes under, in which weights of several dtypes draw together.
        rest: gives up, after drawing, what was there for that alone; None: nothing was.

    Raises:
        ValueError: matplotlib or, for suites, scipy is not installed, or a prompt or an edit cannot be drawn.
    """

    def __init__(
        self,
        asked: Asked,
        model: LightBagel | None,
        module: nn.Module,
        folder: Path,
        title: str = "",
        held_out: HeldOut | None = None,
        swapped: Swapped = nullcontext,
        whole: Whole = unchanged,
        computing: Callable[[], AbstractContextManager[Any]] = nullcontext,
        rest: Callable[[], object] | None = None,
    ) -> None:
        self.asked, self.model, self.module, self.folder, self.title = asked, model, module, folder, title
        self.held_out, self.swapped, self.whole, self.computing = held_out, swapped, whole, computing
        self.rest = rest
        self.wishes: list[Wish] = []
        if asked.prompts or asked.edits:
            check_matplotlib()
            if model is None:
                raise ValueError("pictures are asked for, and this stage trains nothing that draws: leave them out")
            self.wishes = wishes_of(asked, model.text)
        if asked.suites:
            check_suites()
            if model is None:
                raise ValueError("suites are asked for, and this stage trains nothing that draws: validation.suites=0")

    def due(self, step: int, last: bool = False) -> bool:
        """Whether anything is validated after so many steps. last: whether no step follows."""
        return any(self._parts(step, last))

    def _parts(self, step: int, last: bool) -> tuple[bool, bool]:
        """(whether loss and pictures, whether suites)."""

        def now(every: int) -> bool:
            return every > 0 and (last or step % every == 0)

        some = bool(self.wishes) or self.held_out is not None
        suites = self.asked.suites > 0 and (last or now(self.asked.suites_every))
        return some and now(self.asked.every), suites

    def __call__(self, step: int, last: bool = False) -> dict[str, Any]:
        """Validates what is due after so many steps; figures for the record: "held_out", and a table "suites".

        The suites' scores are the first process's alone. Random states, weights and modes are as before afterwards.

        Raises:
            ValueError: a sheet or a suite's files could not be written.
        """
        looks, suites = self._parts(step, last)
        figures: dict[str, Any] = {}
        if not (looks or suites):
            return figures
        with self.swapped():
            if looks and self.held_out is not None:
                figures[HELD_OUT] = self.held_out.loss(self.module)
            if (looks and self.wishes) or suites:
                assert self.model is not None
                with self.whole(self.module), drawing(self.model), self.computing(), ExitStack() as ends:
                    if self.rest is not None:
                        ends.callback(self.rest)
                    if looks and self.wishes:
                        self._draw(self.model, step)
                    if suites:
                        figures |= self._score(self.model, step)
        return figures

    def _draw(self, model: LightBagel, step: int) -> None:
        rank, world = place()
        drawn = gathered(draw(model, self.wishes, rank, world))
        if rank == 0:
            write_samples(self.folder / SAMPLES / f"step-{step:08}.png", self.wishes, drawn, step, self.title)

    def _score(self, model: LightBagel, step: int) -> dict[str, Any]:
        """The suites' headline figures by name; the other processes wait."""
        figures = {}
        if place()[0] == 0:
            folder = self.folder / SUITES / f"step-{step:08}"
            shutil.rmtree(folder, ignore_errors=True)  # of a killed run, perhaps with other weights
            from ..evaluation.suites.run import run_nano

            scores = run_nano(model, folder, per_class=self.asked.suites, progress=False)
            figures = {SUITES: {one.bench: next(iter(one.overall.values())).value for one in scores}}
        added(torch.zeros(1))
        return figures


@contextmanager
def drawing(model: LightBagel) -> Iterator[None]:
    """Has a model that is being trained ready to draw: eval mode, nothing kept for autograd or computed from former
    weights; and everything as it was afterwards, random states too.
    """
    modules: list[nn.Module] = [model.und.vlm, model.gen.dit, model.fusion, model.vae]
    device = model.device
    devices = [device] if device.type == "cuda" else []
    with evaluating(*modules), torch.random.fork_rng(devices), torch.no_grad():
        model.weights_changed()
        try:
            yield
        finally:
            model.weights_changed()
