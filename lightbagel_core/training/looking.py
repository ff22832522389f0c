"""What a stage of drawing is looked at with while it trains: the live model, and samples that it never trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torch import nn

from ..pipeline import LightBagel
from .aside import aside
from .assembly import Work
from .data.pool import Make, Pool
from .data.samples import Plan, Sample, joined, plan
from .data.sets import identity
from .encoders import frozen, stamp
from .held_out import HeldOut
from .parallel import autocast, whole
from .seeds import Stream, generator
from .stages import Cache, Dropout
from .trainer import Trainer
from .validation import Validation

WHOLE = Dropout(text=0.0, clean=0.0, vit=0.0)


def held_out_samples(work: Work) -> list[Sample]:
    """The held-out examples as samples, with nothing dropped; VLM and VAE are open meanwhile.

    With the VLM's states they are made by all processes together and lie in files, which are mapped: those of some
    hundred edits are as large as a computer's memory.

    Raises:
        ValueError: an example cannot be read, or what was read not be written.
    """
    examples = [(part, index) for part in work.held_out for index in range(part.count or 0)]
    if not examples:
        return []
    stage, rng = work.opening.stage, generator(work.opening.stage.seed, Stream.HELD_OUT)  # draws nothing that counts

    def plans(numbers: Sequence[int]) -> list[list[Plan]]:
        return [plan(joined(part[index]), WHOLE, rng) for part, index in (examples[number] for number in numbers)]

    if work.opening.und is not None:  # it trains, so that its states will be others
        assert work.reading is not None
        with work.reading() as encoder:
            return [sample for samples in encoder.live(plans(range(len(examples)))) for sample in samples]

    @contextmanager
    def making() -> Iterator[Make]:
        assert work.reading is not None
        with work.reading() as encoder:
            yield lambda slots: encoder.read(plans(slots))

    depends = f"{stamp(stage, work.opening.config)} {identity(work.held_out)}"
    pool = Pool(work.cache / "held_out", Cache(samples=len(examples), chunks=1), depends, making)
    pool.prepare(0)
    return [sample for number in range(len(examples)) for sample in pool.samples(number)]


def validation(
    work: Work, module: nn.Module, trainer: Trainer, samples: list[Sample], folder: Path
) -> Validation | None:
    """What validates a stage of drawing; None where nothing is asked for.

    Args:
        module: as the engine wraps it. samples: from `held_out_samples`. folder: of the stage.

    Raises:
        ValueError: as `Validation`.
    """
    opening, asked = work.opening, work.opening.stage.validation
    if opening.gen is None or opening.fusion is None:
        if asked.prompts or asked.edits or asked.suites:
            raise ValueError(f"the stage {opening.stage.name} trains nothing that draws: leave its validation out")
        return None
    computing = partial(autocast, opening.stage, opening.world)
    held_out = None
    if samples:
        limit = opening.stage.batch.device_tokens
        held_out = HeldOut(samples, opening.gen.patch, opening.stage.shift, limit, computing=computing)
    model = None
    rest: Callable[[], object] | None = None
    if asked.prompts or asked.edits or asked.suites:
        readers = work.readers
        if readers is None:  # they are not there while the stage trains
            averages = trainer.ema.state().values()
            away = partial(aside, module, trainer.optimiser, averages, opening.world.device)
            readers = frozen(opening.stage, opening.world.device, "parts", away)
            rest = readers.rest
        model = LightBagel(
            opening.config, readers.und, opening.gen, opening.fusion, readers.vae, readers.residency, work.attention
        )
    swapped = partial(trainer.ema.swapped, module)
    title = opening.stage.name
    return Validation(asked, model, module, folder, title, held_out, swapped, whole, computing, rest)
