"""What one stage of a training needs: bytes by part, what a step holds, disk, operations; from shapes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...config import COMPONENTS, NANO, PUBLISHED, LightBagelConfig
from ...files.components import empty_components
from ...files.formats import open_model, read_config
from ...files.tensor_files import Tensors
from ...memory.plan import tensors_of
from ..data.part_file import LATENTS, STATES
from ..data.sets import held_out_counts
from ..parallel import shards
from ..stages import READERS, Model, Stage
from . import activations, needs
from .operations import Operations, operations
from .portions import Portions, portions

KEPT = 2  # bytes of a value of latents that are kept for good


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
        ValueError: the processes or the weights cannot be shared out as the stage says.
    """
    shard = shards(stage.parallel.shard, world)
    if shard > 1 and stage.unshareable:
        raise ValueError(stage.unshareable)
    drawing = stage.recipe == "drawing"
    weights = needs.weights(stage, components)
    held = needs.held(stage, weights, shard)
    found = portions(stage, config) if found is None else found
    counted: Counter[str] = Counter()
    tensors: Counter[str] = Counter()
    for w in weights:
        if w.trained:
            part = f"LoRA on {w.part}" if ".lora_" in w.name else w.part
            counted[part] += w.count
            tensors[part] += 1
    kept = in_a_step(stage, config, weights, found, world, shard) if drawing else 0
    rolling = drawing and stage.cache.states == "rolling"
    values = config.generation["in_channels"] * config.generation["patch_size"][-1] ** 2
    return Plan(
        stage,
        config,
        world,
        shard,
        {part: (tensors[part], counted[part]) for part in counted},
        held,
        kept,
        while_read(stage, config, components, held, found, world, shard) if rolling else 0,
        found,
        found.passes(stage, world),
        disk(stage, config, found, held, shard, values),
        int(KEPT * values * found.whole.gen),
        operations(stage, config, found, world),
    )


def in_a_step(
    stage: Stage, config: LightBagelConfig, weights: list[needs.Weight], found: Portions, world: int, shard: int
) -> int:
    """Bytes that live beside the weights in a step of drawing. Live, the next pass is read while one is computed."""
    most, kept = -(-found.samples // world), 0
    for one in found.largest:
        batch = one * max(1, min(stage.batch.device_tokens // one.all, most))
        beside = 0
        if stage.cache.states == "live":
            read = 0 if "understanding" in stage.train else activations.reading(config, one, stage.base)
            beside = max(read, activations.encoding(config))
        kept = max(kept, beside + activations.kept(stage, config, weights, batch, found.packed, shard).all)
    return kept


def while_read(
    stage: Stage,
    config: LightBagelConfig,
    components: Mapping[str, Tensors],
    held: needs.Held,
    found: Portions,
    world: int,
    shard: int,
) -> int:
    """Bytes while the rolling cache is filled: by the VLM or the VAE, and beside it what several processes share, or,
    where they share nothing, the buckets in which DDP averages gradients; all else is away.
    """
    stays = 0
    if shard > 1:
        stays = held.frozen + held.weights + held.optimiser + held.ema
    elif world > 1:
        stays = held.gradients  # the buckets are as large
    vlm, vae = (sum(w.bytes for w in needs.weights(stage, components, [name])) for name in READERS)
    read = max(activations.reading(config, one, stage.base) for one in found.largest)
    return stays + max(vlm + read, vae + activations.encoding(config))


def disk(
    stage: Stage, config: LightBagelConfig, found: Portions, held: needs.Held, shard: int, values: int
) -> dict[str, int]:
    """Bytes on disk: the rolling cache with a chunk that is written while the oldest is still there, what is held out
    with the VLM's states unless training changes these, the latents of known sets but for what is held out, checkpoints
    with one that is written.

    Args:
        values: of the latents of a token.
    """
    lie = {"checkpoints": (stage.checkpoints.keep + 2) * shard * (held.weights + held.optimiser + held.ema)}
    if stage.recipe != "drawing":
        return lie

    def in_files(und: float, gen: float) -> float:
        states = STATES.itemsize * config.fusion.und_dim * config.fusion.und_layers
        return states * und + LATENTS.itemsize * values * gen

    if stage.cache.states == "rolling":
        samples = stage.cache.samples * (stage.cache.chunks + 1) * found.turns
        lie["rolling cache"] = int(samples * in_files(found.mean.und, found.whole.gen))
    if found.held_out.noised and "understanding" not in stage.train:
        lie["held-out examples"] = int(in_files(found.held_out.und, found.held_out.gen))
    known = sum(
        share.count - apart
        for share, apart in zip(found.shares, held_out_counts(stage), strict=True)
        if share.count is not None and not share.assumed
    )
    if stage.cache.latents and known > 0:
        lie["latents"] = int(known * found.turns * KEPT * values * found.whole.gen)
    return lie
