"""What the target stands after in each branch of guidance, with and without earlier turns and thoughts. Pure.

It orders contents, whatever they are: token ids and pictures here, names or segments elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Said(Generic[T]):
    """An earlier turn: its pictures, each as the clean VAE and the ViT contents that it has, and its text."""

    pictures: Sequence[T]
    text: T


def branches_of(pictures: Sequence[T], text: T, negative: T, history: Sequence[Said[T]] = ()) -> dict[str, list[T]]:
    """The contents before the target of each guidance branch (docs/model.md, section 7).

    full: the history, the pictures, the text. negative: the same with another text in place of the last. no_image: all
    texts, no pictures.

    Args:
        pictures: those of this turn, each as the clean VAE and the ViT contents that it has.
        history: earlier turns, the oldest first; none in the published recipe but for chains of two (docs/model.md,
            section 11).
    """
    before = [part for turn in history for part in (*turn.pictures, turn.text)]
    return {
        "full": [*before, *pictures, text],
        "negative": [*before, *pictures, negative],
        "no_image": [*(turn.text for turn in history), text],
    }


def thinking_branches(pictures: Sequence[T], texts: Sequence[T]) -> dict[str, list[T]]:
    """The same for weights that were trained to think before they draw, as their authors guide them.

    full: the pictures, then system text, prompt and thought, each a segment of its own. negative: the pictures alone,
    no negative prompt. no_image: the texts.
    """
    return {"full": [*pictures, *texts], "negative": [*pictures], "no_image": [*texts]}
