"""What a step holds, in samples and tokens: from the shapes of a stage's sets, or from what its config says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...config import LightBagelConfig
from ...images import size_by_rule
from ...world.scenes import SIZE
from ..data.batches import Batches
from ..data.example import Example, Examples, Shape
from ..data.sets import held_out_counts, set_names
from ..seeds import Stream, generator
from ..stages import DataSet, Stage
from .tokens import Tokens, example

TEXT = 64  # tokens of a text where nothing is known of it
LOOKED_AT = 1000  # slots of the mix: within so many its shares are exact


@dataclass(frozen=True)
class Assumed:
    """A set that cannot be read yet: pictures of the largest size, texts of some length, edits with one source."""

    asked: DataSet
    config: LightBagelConfig

    @property
    def count(self) -> int | None:
        return None  # not known

    @property
    def identity(self) -> str:
        return f"assumed {self.asked}"

    def shape(self, index: int) -> Shape:
        world = self.asked.kind == "world"
        size = (SIZE, SIZE) if world else (self.config.vae_image.long,) * 2
        edit = math.floor((index + 1) * self.asked.edits) > math.floor(index * self.asked.edits)
        return Shape((size,) * edit, (size,), (12 if world else TEXT,))

    def __getitem__(self, index: int) -> Example:
        raise ValueError("a set that cannot be read yet has no examples")


@dataclass(frozen=True)
class Share:
    """What one set gives. samples, tokens: its shares in 0..1. count: its examples; None: unknown, or without end."""

    name: str
    samples: float
    tokens: float
    count: int | None
    assumed: bool


@dataclass(frozen=True)
class Portions:
    """What a step holds, over all processes.

    mean: tokens of a sample, with its segments dropped as the stage says. whole: of a sample that keeps all. What the
    samples of a chain share counts once. samples: of a step.
    largest: of each kind of example, text to image and edit, the tokens of its largest, nothing dropped.
    packed: whether pictures are of several sizes, so that their tokens stand in one row.
    turns: samples of an example: more than one where chains are drawn turn by turn.
    held_out: tokens of all examples that are never trained on, each one sample that keeps all.
    """

    mean: Tokens
    whole: Tokens
    samples: float
    largest: tuple[Tokens, ...]
    packed: bool
    shares: tuple[Share, ...]
    turns: float = 1.0
    held_out: Tokens = field(default_factory=Tokens)

    @property
    def tokens(self) -> float:
        """Of a step, as its budget counts them: nothing dropped."""
        return self.samples * self.whole.all

    def passes(self, stage: Stage, world: int) -> int:
        """How often a process goes through the model in a step."""
        return max(1, math.ceil(self.tokens / world / stage.batch.device_tokens))


def portions(stage: Stage, config: LightBagelConfig, sets: Sequence[Examples | None] = ()) -> Portions:
    """What a step of a stage holds, by the first slots of its mix.

    Args:
        sets: the stage's sets in the order of its config, opened; None: this one cannot be read yet.
    """
    opened = [*sets, *[None] * (len(stage.data.sets) - len(sets))]
    readable = [o or Assumed(asked, config) for o, asked in zip(opened, stage.data.sets, strict=True)]
    batches = Batches(readable, stage, config)
    rng = generator(stage.seed, Stream.DRY_RUN)
    count, given = np.zeros(len(readable)), np.zeros(len(readable))
    mean = whole = Tokens()
    largest: dict[bool, Tokens] = {}
    sizes = set()
    for slot in range(LOOKED_AT):
        pick = batches.pick(slot)
        shape = readable[pick.which].shape(pick.index)
        mean += example(shape, config, not pick.joined, stage.dropout, rng)
        full = example(shape, config, not pick.joined, None, rng)
        whole += full
        if full.all > largest.get(full.clean > 0, Tokens()).all:
            largest[full.clean > 0] = full
        sizes |= {size_by_rule(*size, config.vae_image) for size in (*shape.sources, *shape.targets)}
        count[pick.which] += 1 if pick.joined else len(shape.targets)
        given[pick.which] += pick.tokens
    number = float(count.sum())
    mean, whole = mean * (1 / number), whole * (1 / number)
    shares = tuple(
        Share(name, float(c / number), float(g / given.sum()), r.count, o is None)
        for name, c, g, r, o in zip(set_names(stage), count, given, readable, opened, strict=True)
    )
    batch, turns = stage.batch, number / LOOKED_AT
    # What a config calls samples are examples.
    step = batch.samples * turns if batch.samples else batch.tokens / whole.all
    packed = len(sizes) > 1 or any(isinstance(r, Assumed) and r.asked.kind != "world" for r in readable)
    held_out = _held_out(stage, config, readable)
    return Portions(mean, whole, step, tuple(largest.values()), packed, shares, turns, held_out)


def _held_out(stage: Stage, config: LightBagelConfig, sets: Sequence[Examples]) -> Tokens:
    """The first examples of a set stand for those that are held out of it."""
    found, rng = Tokens(), generator(stage.seed, Stream.DRY_RUN)  # draws nothing, as nothing is dropped
    for examples, number in zip(sets, held_out_counts(stage), strict=True):
        for index in range(number):
            found += example(examples.shape(index % (examples.count or number)), config, False, None, rng)
    return found
