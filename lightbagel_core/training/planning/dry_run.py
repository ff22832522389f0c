"""What a training would need, before anything is loaded: memory by part, mix, tokens, disk, arithmetic, hours.

All of it is arithmetic over shapes (`needs`, `activations`, `portions`, `operations`, put together in `stage_plan`); no
weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..data.example import Examples
from ..going_on import resolved
from ..stages import Stage
from .fit import fit
from .plan_table import describe
from .portions import portions
from .stage_plan import config_of, plan, shapes


def dry_run(
    stages: Sequence[Stage],
    world: int = 1,
    card: float | None = None,
    rate: float | None = None,
    sets: Mapping[str, Sequence[Examples | None]] | None = None,
) -> str:
    """The table of all stages of a training.

    Args:
        card: bytes of each device's memory. rate: TFLOP/s that it really does.
        sets: by a stage's name its sets, opened; None, or too few: what cannot be read yet is taken for pictures of the
            largest size.

    Raises:
        ValueError: a stage does not fit the card; the message says what would.
    """
    plans = []
    for stage in stages:
        config, file = config_of(stage.model)
        stage = resolved(stage, shapes(file))
        opened = (sets or {}).get(stage.name, ())
        plans.append(plan(stage, config, shapes(file), world, portions(stage, config, opened)))
        if card is not None:
            fit(plans[-1], shapes(file), card)
    return describe(plans, rate)
