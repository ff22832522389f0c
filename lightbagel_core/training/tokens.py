"""The tokens of samples, counted from the sizes of their pictures and the words of their texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import add

import numpy as np

from ..config import LightBagelConfig
from ..images import image_tokens
from .data.example import Shape
from .stages import Dropout


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


def turns(shape: Shape, chain: bool) -> Iterator[tuple[list[tuple[str, int, int]], tuple[int, int]]]:
    """Of each sample of an example its parts, (kind, number of its picture or text, words), and its target's size.

    Args:
        chain: whether each turn is drawn; else all are one instruction.
    """
    texts, targets = list(shape.words), shape.targets
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
