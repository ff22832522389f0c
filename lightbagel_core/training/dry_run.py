"""What a training would need, before anything is loaded: memory by part, mix, tokens, disk, arithmetic, hours.

All of it is arithmetic over shapes (`needs`, `activations`, `portions`, `operations`); no weight is read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ..config import COMPONENTS, NANO, PUBLISHED, LightBagelConfig
from ..files.components import empty_components
from ..files.formats import open_model, read_config
from ..files.tensor_files import Tensors
from ..memory.plan import MARGIN, tensors_of
from . import activations, needs
from .config import Model, Parallel, Stage
from .data.example import Examples
from .operations import Operations, operations
from .portions import Portions, portions

LATENTS = 2  # bytes of a cached latent's value, and of a und state's
READERS = ("understanding", "vae")  # what fills the rolling cache, one after the other
MORE_SHARDS = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Plan:
    """What one stage needs.

    trained: by part, how many tensors and parameters. held, kept: bytes on one process during a step. reading: bytes on
    it while VLM and VAE, one after the other, fill the rolling cache and the frozen DiT is away; 0: they never do.
    passes: of a process in a step. disk: bytes by what lies there. latents: bytes of one sample's pictures.
    """

    stage: Stage
    config: LightBagelConfig
    world: int
    shard: int
    trained: Mapping[str, tuple[int, int]]
    held: needs.Held
    kept: int
    reading: int
    portions: Portions
    passes: int
    disk: Mapping[str, int]
    latents: int
    operations: Operations

    @property
    def training(self) -> int:
        """Bytes on one process during a step."""
        h = self.held
        return h.frozen + h.weights + h.gradients + h.optimiser + h.ema + h.unit + self.kept

    @property
    def bytes(self) -> int:
        """The most that one process needs."""
        return max(self.training, self.reading)

    @property
    def tokens(self) -> float:
        """Of the whole stage, as its budget counts them."""
        return self.stage.steps * self.portions.tokens

    def hours(self, rate: float) -> float:
        """At so many TFLOP/s that each device really does."""
        return self.stage.steps * self.operations.all / (rate * 1e12 * self.world) / 3600


def config_of(model: Model) -> tuple[LightBagelConfig, Path]:
    """The config of the model that a stage opens, and the file that it stands in."""
    if model.config is not None:
        file = NANO / "config.json" if model.config == "nano" else Path(model.config)
        return read_config(file), file
    if model.model is not None:
        opened = open_model(NANO if model.model == "nano" else Path(model.model), need=())
        return opened.config, opened.config_file
    return read_config(PUBLISHED), PUBLISHED


@lru_cache(maxsize=4)
def shapes(file: Path) -> dict[str, Tensors]:
    """The tensors of the model that a config describes, none of which has any memory."""
    config = read_config(file)
    return {name: tensors_of(module, name) for name, module in empty_components(config, file, COMPONENTS).items()}


def plan(
    stage: Stage,
    config: LightBagelConfig,
    components: Mapping[str, Tensors],
    world: int = 1,
    found: Portions | None = None,
) -> Plan:
    """What a stage needs.

    Args:
        components: their tensors, from `shapes`. world: processes, each with a device.
        found: what a step holds; default: what the config says of it.

    Raises:
        ValueError: the processes cannot be shared out as the stage says.
    """
    shard = stage.parallel.shard or world
    if world % shard:
        raise ValueError(f"{world} processes cannot be shared out {shard} to a copy of the weights; use a multiple")
    drawing = stage.recipe == "drawing"
    weights = needs.weights(stage, components)
    held = needs.held(stage, weights, shard)
    found = portions(stage, config) if found is None else found
    passes = found.passes(stage, world)
    counted: Counter[str] = Counter()
    tensors: Counter[str] = Counter()
    for w in weights:
        if w.trained:
            part = f"LoRA on {w.part}" if ".lora_" in w.name else w.part
            counted[part] += w.count
            tensors[part] += 1
    kept = reading = 0
    if drawing:
        most = -(-found.samples // world)
        for one in found.largest:
            batch = one * max(1, min(stage.batch.device_tokens // one.all, most))
            step = activations.kept(stage, config, weights, batch, found.packed, shard).all
            read, encode = activations.reading(config, batch, stage.base), activations.encoding(config)
            if stage.cache.states == "live":
                kept = max(kept, step, read, encode)
            else:
                vlm, vae = (sum(w.bytes for w in needs.weights(stage, components, [n])) for n in READERS)
                own = held.weights + held.optimiser + held.ema
                kept, reading = max(kept, step), max(reading, own + max(vlm + read, vae + encode))
    patch = config.generation["in_channels"] * config.generation["patch_size"][-1] ** 2
    latents = int(LATENTS * patch * found.whole.gen)
    return Plan(
        stage,
        config,
        world,
        shard,
        {part: (tensors[part], counted[part]) for part in counted},
        held,
        kept,
        reading,
        found,
        passes,
        disk(stage, config, found, held, shard, latents),
        latents,
        operations(stage, config, found, passes * world),
    )


def disk(
    stage: Stage, config: LightBagelConfig, found: Portions, held: needs.Held, shard: int, latents: int
) -> dict[str, int]:
    """Bytes on disk: the rolling cache, the latents of sets that are known, checkpoints with one that is written."""
    lie = {"checkpoints": (stage.checkpoints.keep + 2) * shard * (held.weights + held.optimiser + held.ema)}
    if stage.recipe != "drawing":
        return lie
    if stage.cache.states == "rolling":
        states = LATENTS * config.fusion.und_dim * config.fusion.und_layers * found.mean.und
        lie["rolling cache"] = int(stage.cache.samples * stage.cache.chunks * (states + latents))
    known = sum(share.count for share in found.shares if share.count is not None and not share.assumed)
    if stage.cache.latents and known:
        lie["latents"] = known * latents
    return lie


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
    if stage.base != "float8":
        ways.append([("base=float8", replace(stage, base="float8"))])
    more = [n for n in MORE_SHARDS if n > shard > 0]
    ways.append([(f"parallel.shard={n} on {n} devices", replace(stage, parallel=Parallel(n))) for n in more])
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
    names, stage = list[str](), made.stage
    for number in range(len(less(made.stage, least))):  # what one way alone does not do, several may
        left = [way for way in less(stage, least) if way[0][0].split("=")[0] not in {n.split("=")[0] for n in names}]
        name, stage, bytes = tried(left[0])
        names.append(name)
        if bytes <= room and number:
            raise ValueError(f"{said}; it would fit with {' '.join(names)} ({gb(bytes)})")
    raise ValueError(f"{said}; {' '.join(names)} would still need {gb(bytes)}: take a larger card, or train less of it")


def gb(count: float) -> str:
    """Bytes as a person reads them."""
    for unit, size, least in (("TB", 1e12, 1e12), ("GB", 1e9, 1e8), ("MB", 1e6, 1e5)):
        if count >= least:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def describe(plans: Sequence[Plan], rate: float | None = None) -> str:
    """The plans of all stages as a table.

    Args:
        rate: TFLOP/s that each device really does, for hours.
    """
    rows: list[tuple[str, list[str]]] = []

    def row(name: str, *values: str) -> None:
        rows.append((name, list(values)))

    def bytes_of(name: str, part: str) -> None:
        found = [getattr(p.held, part) for p in plans]
        if any(found):
            row(f"  {name}", *(gb(n) if n else "-" for n in found))

    row("stage", *(p.stage.name for p in plans))
    row("steps", *(f"{p.stage.steps:,}" for p in plans))
    row("trained")
    for part in dict.fromkeys(part for p in plans for part in p.trained):
        said = [p.trained.get(part) for p in plans]
        row(f"  {part}", *(f"{s[1] / 1e6:,.1f} M, {s[0]} tensors" if s else "-" for s in said))
    world, shard = plans[0].world, {p.shard for p in plans}
    row(f"memory on each of {world} devices, weights shared by {', '.join(map(str, sorted(shard)))}")
    for name, part in {
        "frozen weights": "frozen",
        "trained weights": "weights",
        "gradients": "gradients",
        "optimiser": "optimiser",
        "EMA": "ema",
        "gathered from others": "unit",
    }.items():
        bytes_of(name, part)
    row("  activations", *(gb(p.kept) if p.kept else "not counted" for p in plans))
    row("  together", *(gb(p.training) for p in plans))
    if any(p.reading for p in plans):
        row("  while the cache is filled", *(gb(p.reading) if p.reading else "-" for p in plans))
    row("a step holds")
    row("  samples", *(f"{p.portions.samples:,.0f}" for p in plans))
    drawn = [p.stage.recipe == "drawing" for p in plans]
    row("  tokens", *(f"{p.portions.tokens:,.0f}" if d else "-" for p, d in zip(plans, drawn, strict=True)))
    row("  passes of each device", *(str(p.passes) if d else "-" for p, d in zip(plans, drawn, strict=True)))
    for number in range(max(len(p.portions.shares) for p in plans)):
        shares = [p.portions.shares[number] if number < len(p.portions.shares) else None for p in plans]
        names = dict.fromkeys(s.name + ("*" if s.assumed else "") for s in shares if s)
        row(
            f"  {' / '.join(names)}",
            *(
                f"{s.samples:.1%}, {s.tokens:.1%} of tokens" if s and d else "-"
                for s, d in zip(shares, drawn, strict=True)
            ),
        )
    row("disk")
    for name in dict.fromkeys(name for p in plans for name in p.disk):
        row(f"  {name}", *(gb(p.disk[name]) if name in p.disk else "-" for p in plans))
    row("  latents of a sample", *(gb(p.latents) if d else "-" for p, d in zip(plans, drawn, strict=True)))
    row("in all")
    row("  tokens", *(f"{p.tokens / 1e9:,.2f} G" if d else "-" for p, d in zip(plans, drawn, strict=True)))
    row("  PFLOP", *(f"{p.stage.steps * p.operations.all / 1e15:,.3g}" if p.operations.all else "-" for p in plans))
    if rate is not None:
        row(f"  hours at {rate:g} TFLOP/s", *(f"{p.hours(rate):,.4g}" if p.operations.all else "-" for p in plans))
    left = max(len(name) for name, values in rows if values) + 2
    widths = [max(len(values[i]) for _, values in rows if values) for i in range(len(plans))]
    lines = [
        name.ljust(left) + "  ".join(v.rjust(w) for v, w in zip(values, widths, strict=True)) if values else name
        for name, values in rows
    ]
    if any(p.kept and "understanding" in p.stage.train for p in plans):
        lines.append("activations of the VLM, which is trained too, are not counted")
    if any(s.assumed for p in plans for s in p.portions.shares):
        lines.append("* not read yet: taken for pictures of the largest size, edits with one source each")
    return "\n".join(line.rstrip() for line in lines)


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
        opened = (sets or {}).get(stage.name, ())
        plans.append(plan(stage, config, shapes(file), world, portions(stage, config, opened)))
        if card is not None:
            fit(plans[-1], shapes(file), card)
    return describe(plans, rate)
