"""What a stage of drawing is looked at with while it trains: the live model, and samples that it never trains on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from ..pipeline import LightBagel
from .assembly import Work
from .data.samples import Sample, joined, plan
from .encoders import frozen
from .held_out import HeldOut
from .parallel import autocast, whole
from .seeds import Stream, generator
from .stages import Dropout
from .trainer import Trainer
from .validation import Validation


def held_out_samples(work: Work) -> list[Sample]:
    """The held-out examples as samples, with nothing dropped; VLM and VAE are open meanwhile."""
    examples = [part[index] for part in work.held_out for index in range(part.count or 0)]
    if not examples:
        return []
    assert work.reading is not None
    rng = generator(work.opening.stage.seed, Stream.HELD_OUT)  # draws nothing that counts: nothing is dropped
    plans = [plan(joined(example), Dropout(0.0, 0.0, 0.0), rng) for example in examples]
    with work.reading() as encoder:
        read = encoder.read if work.opening.und is None else encoder.live
        return [sample for samples in read(plans) for sample in samples]


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
    if asked.prompts or asked.edits or asked.suites:
        und, vae, residency = frozen(opening.stage, opening.world.device)
        if opening.und is not None:  # it trains
            und = opening.und
            residency.loaded.add("understanding")
        model = LightBagel(opening.config, und, opening.gen, opening.fusion, vae, residency, work.attention)
    swapped = partial(trainer.ema.swapped, module)
    title = opening.stage.name
    return Validation(asked, model, module, folder, title, held_out, swapped, whole, computing)
