"""Whether a stage fits a card, and if not, what would make it fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...files.tensor_files import Tensors
from ...memory.plan import MARGIN
from ..stages import Parallel, Stage
from .plan_table import gb
from .stage_plan import Plan, plan

MORE_SHARDS = (2, 4, 8, 16, 32, 64)
Change = tuple[str, Stage]  # an override in words, and the stage with it


def less(stage: Stage, least: int) -> list[list[Change]]:
    """Ways to need less memory, the cheapest first; of each its steps, every one needing less than the one before.

    Args:
        least: tokens of the largest sample; a pass has at least one.
    """
    batch, optimiser, shard = stage.batch, stage.optimiser, stage.parallel.shard
    ways: list[list[Change]] = []
    if not stage.checkpointing:
        ways.append([("checkpointing=true", replace(stage, checkpointing=True))])
    fewer = [n for n in (batch.device_tokens * eighths // 8 for eighths in (6, 4, 3, 2, 1)) if n > least]
    fewer += [least] if batch.device_tokens > least else []
    ways.append([(f"batch.device_tokens={n}", replace(stage, batch=replace(batch, device_tokens=n))) for n in fewer])
    if optimiser.name == "adamw":
        ways.append([("optimiser.name=adamw-8bit", replace(stage, optimiser=replace(optimiser, name="adamw-8bit")))])
    if stage.recipe == "drawing" and stage.cache.states == "live" and "understanding" not in stage.train:
        ways.append([("cache.states=rolling", replace(stage, cache=replace(stage.cache, states="rolling")))])
    if stage.base != "float8" and stage.precision != "float32" and shard == 1:  # float8 cannot be shared, nor be wide
        ways.append([("base=float8", replace(stage, base="float8"))])
    more = [n for n in MORE_SHARDS if n > shard > 0]
    also, whole = "", stage
    if stage.base == "float8":
        also, whole = "base=bfloat16 ", replace(whole, base="bfloat16")
    if whole.unshareable:
        also, whole = f"{also}precision=bfloat16-mixed ", replace(whole, precision="bfloat16-mixed")
    ways.append([(f"{also}parallel.shard={n} on {n} devices", replace(whole, parallel=Parallel(n))) for n in more])
    return [way for way in ways if way]


def fit(made: Plan, components: Mapping[str, Tensors], card: float) -> None:
    """Checks that a stage fits devices of so many bytes.

    Raises:
        ValueError: it does not; the message says what would make it fit, the cheapest first.
    """
    room = card - MARGIN
    if made.bytes <= room:
        return

    def need(stage: Stage) -> int:
        shard = stage.parallel.shard or made.world
        return plan(stage, made.config, components, max(made.world - made.world % shard, shard), made.portions).bytes

    def tried(way: Sequence[Change]) -> tuple[str, Stage, int]:
        """The first step that fits, else the last, with its need."""
        found = ((name, stage, need(stage)) for name, stage in way)
        return next((one for one in found if one[2] <= room), (*way[-1], need(way[-1][1])))

    least = math.ceil(max(one.all for one in made.portions.largest))
    said = f"stage {made.stage.name} needs {gb(made.bytes)} on each device, but of {gb(card)} it has {gb(room)}"
    for way in less(made.stage, least):
        name, _, bytes = tried(way)
        if bytes <= room:
            raise ValueError(f"{said}; it would fit with {name} ({gb(bytes)})")
    names, stage, bytes = list[str](), made.stage, made.bytes
    while left := [way for way in less(stage, least) if key(way[0][0]) not in map(key, names)]:
        name, stage, bytes = tried(left[0])  # what one way alone does not do, several may
        names = [n for n in names if not (n.startswith("base=") and name.startswith("base="))] + [name]
        if bytes <= room:
            raise ValueError(f"{said}; it would fit with {' '.join(names)} ({gb(bytes)})")
    raise ValueError(
        f"{said}; {' '.join(names) or 'as it is it'} would still need {gb(bytes)}: take a larger card or train less"
    )


def key(override: str) -> str:
    """What an override changes."""
    return "parallel.shard" if "parallel.shard" in override else override.split("=")[0]
