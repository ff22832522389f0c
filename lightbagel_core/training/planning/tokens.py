"""The tokens of samples, counted from the sizes of their pictures and the words of their texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import add

import numpy as np

from ...config import LightBagelConfig
from ...images import image_tokens
from ..data.example import Shape
from ..stages import Dropout


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


def chained(turns: Iterable[tuple[Sequence[tuple[str, int]], int]]) -> Tokens:
    """The tokens of samples each of which begins with all that the one before it held; that is counted once, as it is
    computed once.

    Args:
        turns: of each sample the parts that it adds, in order ("clean", tokens), ("vit", tokens) or ("text", tokens),
            without markers; and its noised tokens.
    """
    total, before, clean = Tokens(), 0, 0  # und and clean tokens of what a sample begins with
    for parts, target in turns:
        und = before
        for kind, tokens in parts:
            und += 2 if kind == "clean" else tokens + 2
            if kind == "clean":
                clean += tokens
                keys = und + clean
                total += Tokens(clean=tokens, keys=keys, pairs=tokens * keys, squares=tokens**2)
            elif kind == "vit":
                total += Tokens(vit=tokens)
        read = und + 2  # with the target's own markers
        keys = read + clean + target
        pairs, new = target * keys, read - before
        total += Tokens(target, 0, new, 0, keys, pairs, pairs, target**2, new * read)
        before = und
    return total


def turns(shape: Shape, chain: bool) -> Iterator[tuple[list[tuple[str, int, int]], tuple[int, int]]]:
    """Of each sample of an example the parts that it adds, (kind, number of its picture or text, words), and its
    target's size.

    Args:
        chain: whether each turn is drawn; else all are one instruction.
    """
    texts, targets = shape.words, shape.targets
    if not chain:
        texts, targets = (sum(texts),), targets[-1:]
    sources = len(shape.sources)
    for number, (words, target) in enumerate(zip(texts, targets, strict=True)):
        added: Sequence[int] = [sources + number - 1] if number else range(sources)  # what the turn before drew
        parts = [(kind, picture, 0) for picture in added for kind in ("clean", "vit")]
        yield [*parts, ("text", number, words)], target


def example(
    shape: Shape, config: LightBagelConfig, chain: bool, dropout: Dropout | None, rng: np.random.Generator
) -> Tokens:
    """The tokens of all samples of an example, with segments dropped; without `dropout` all stay."""
    pictures = [*shape.sources, *shape.targets]
    rules = {"clean": config.vae_image, "vit": config.vit_image}

    def kept(parts: Sequence[tuple[str, int, int]]) -> Iterator[tuple[str, int]]:
        for kind, number, words in parts:
            stays = dropout is None or rng.random() >= getattr(dropout, kind)
            if kind != "text":
                if stays:
                    yield kind, image_tokens(pictures[number], rules[kind])
            elif stays:
                yield kind, words
            elif dropout is not None and rng.random() < dropout.empty:
                yield kind, 0

    return chained((list(kept(parts)), image_tokens(target, config.vae_image)) for parts, target in turns(shape, chain))
