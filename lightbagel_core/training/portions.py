"""What a step holds, in samples and tokens: from the shapes of a stage's sets, or from what its config says of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import add
from typing import Any

import numpy as np

from ..config import ImageRule, LightBagelConfig
from ..images import size_by_rule
from ..world.scenes import SIZE
from .config import DataSet, Dropout, Stage
from .data.example import Example, Examples, Shape
from .data.mix import Mix

TEXT = 64  # tokens of a text where nothing is known of it
LOOKED_AT = 1000  # slots of the mix: within so many its shares are exact


@dataclass(frozen=True)
class Tokens:
    """The tokens of samples, and how many pairs of them attend to each other. Means of many samples need not be whole.

    noised, clean: of targets and sources in the DiT. und: in the VLM, of which vit: of pictures.
    keys: what each picture attends to in a fusion layer, added up over pictures.
    pairs: of gen tokens and their keys there; noised_pairs: those of targets.
    squares: pairs in the DiT's own attention. und_squares: in the VLM's.
    """

    noised: float = 0.0
    clean: float = 0.0
    und: float = 0.0
    vit: float = 0.0
    keys: float = 0.0
    pairs: float = 0.0
    noised_pairs: float = 0.0
    squares: float = 0.0
    und_squares: float = 0.0

    @property
    def gen(self) -> float:
        return self.noised + self.clean

    @property
    def all(self) -> float:
        return self.gen + self.und

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(*map(add, vars(self).values(), vars(other).values()))

    def __mul__(self, times: float) -> Tokens:
        return Tokens(*(value * times for value in vars(self).values()))


def sample(parts: Sequence[tuple[str, int]], target: int) -> Tokens:
    """One sample's tokens.

    Args:
        parts: in order, ("clean", tokens), ("vit", tokens) or ("text", tokens); without markers.
        target: noised tokens.
    """
    total, und, clean = Tokens(), 0, 0
    for kind, tokens in parts:
        und += 2 if kind == "clean" else tokens + 2
        if kind == "clean":
            clean += tokens
            keys = und + clean
            total += Tokens(clean=tokens, keys=keys, pairs=tokens * keys, squares=tokens**2)
        elif kind == "vit":
            total += Tokens(vit=tokens)
    und += 2  # the target's own markers
    keys = und + clean + target
    pairs = target * keys
    return total + Tokens(target, 0, und, 0, keys, pairs, pairs, target**2, und**2)


@dataclass(frozen=True)
class Assumed:
    """A set that cannot be read yet: pictures of the largest size, texts of some length, edits with one source."""

    asked: DataSet
    config: LightBagelConfig
    count: int | None = None

    @property
    def identity(self) -> str:
        return f"assumed {self.asked}"

    def shape(self, index: int) -> Shape:
        world = self.asked.kind == "world"
        size = (SIZE, SIZE) if world else (self.config.vae_image.long,) * 2
        edit = math.floor((index + 1) * self.asked.edits) > math.floor(index * self.asked.edits)
        words: Any = (12 if world else TEXT,)
        return Shape((size,) * edit, (size,), words)

    def __getitem__(self, index: int) -> Example:
        raise ValueError(f"the examples of {self.asked.name or self.asked.path or self.asked.kind} are not there")


def image_tokens(size: tuple[int, int], rule: ImageRule) -> int:
    """Tokens of a picture of (width, height) pixels once it is sized by a rule."""
    width, height = size_by_rule(*size, rule)
    return (width // rule.stride) * (height // rule.stride)


def turns(shape: Shape, chain: bool) -> Iterator[tuple[list[tuple[str, int, int]], tuple[int, int]]]:
    """Of each sample of an example its parts, (kind, number of its picture or text, words), and its target's size.

    Args:
        chain: whether each turn is drawn; else all are one instruction.
    """
    words: Any = shape.words
    texts = [int(n) for n in words] if isinstance(words, tuple) else [int(words)]
    targets = shape.targets
    if not chain:
        texts, targets = [sum(texts)], targets[-1:]
    parts = [(kind, i, 0) for i in range(len(shape.sources)) for kind in ("clean", "vit")]
    for number, target in enumerate(targets):
        if number:
            parts += [(kind, len(shape.sources) + number - 1, 0) for kind in ("clean", "vit")]
        parts.append(("text", number, texts[min(number, len(texts) - 1)]))
        yield list(parts), target


def samples(
    shape: Shape, config: LightBagelConfig, chain: bool, dropout: Dropout | None, rng: np.random.Generator
) -> list[Tokens]:
    """The samples of an example, with segments dropped; without `dropout` all stay."""
    pictures = [*shape.sources, *(shape.targets if chain else ())]
    kept: dict[tuple[str, int], str] = {}

    def stays(kind: str, number: int) -> str:
        """Whether a segment stays ("yes", "empty", or ""); in all turns alike."""
        if (kind, number) not in kept:
            share = 0.0 if dropout is None else getattr(dropout, kind)
            stay = "yes" if rng.random() >= share else ""
            if not stay and kind == "text" and dropout is not None and rng.random() < dropout.empty:
                stay = "empty"
            kept[kind, number] = stay
        return kept[kind, number]

    rules = {"clean": config.vae_image, "vit": config.vit_image}
    found = []
    for parts, target in turns(shape, chain):
        held = []
        for kind, number, words in parts:
            stay = stays(kind, number)
            if stay:
                tokens = words * (stay == "yes") if kind == "text" else image_tokens(pictures[number], rules[kind])
                held.append((kind, tokens))
        found.append(sample(held, image_tokens(target, config.vae_image)))
    return found


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

    mean: tokens of a sample, with its segments dropped as the stage says. whole: of a sample that keeps all.
    samples: of a step. largest: of each kind of sample the tokens of its largest, nothing dropped.
    packed: whether pictures are of several sizes, so that their tokens stand in one row.
    """

    mean: Tokens
    whole: Tokens
    samples: float
    largest: tuple[Tokens, ...]
    packed: bool
    shares: tuple[Share, ...]

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
    mix = Mix([s.weight for s in stage.data.sets], [s.count for s in readable], stage.seed)
    rng = np.random.default_rng([stage.seed, 17])
    count, given = np.zeros(len(readable)), np.zeros(len(readable))
    mean = whole = Tokens()
    largest: dict[bool, Tokens] = {}
    sizes = set()
    for slot in range(LOOKED_AT):
        which, index = mix[slot]
        shape = readable[which].shape(index)
        chain = stage.data.turns == "chain" or (stage.data.turns == "mixed" and slot % 2 == 1)
        full = samples(shape, config, chain, None, rng)
        for tokens in samples(shape, config, chain, stage.dropout, rng):
            mean += tokens
        for tokens in full:
            whole += tokens
            edit = tokens.clean > 0
            if tokens.all > largest.get(edit, Tokens()).all:
                largest[edit] = tokens
        sizes |= {size_by_rule(*size, config.vae_image) for size in (*shape.sources, *shape.targets)}
        count[which] += len(full)
        given[which] += sum(tokens.all for tokens in full)
    number = float(count.sum())
    mean, whole = mean * (1 / number), whole * (1 / number)
    names = [s.name or s.path or s.kind for s in stage.data.sets]
    shares = tuple(
        Share(name, float(c / number), float(g / given.sum()), r.count, o is None)
        for name, c, g, r, o in zip(names, count, given, readable, opened, strict=True)
    )
    batch = stage.batch
    # A chain is one example of several samples; a step has so many examples.
    step = batch.samples * number / LOOKED_AT if batch.samples else batch.tokens / whole.all
    packed = len(sizes) > 1 or any(isinstance(r, Assumed) and r.asked.kind == "folder" for r in readable)
    return Portions(mean, whole, step, tuple(largest.values()), packed, shares)
