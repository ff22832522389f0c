"""From examples to samples: the sequences that the model sees, each ending in one target.

Whole segments are dropped independently, which is what guidance without them needs (docs/model.md, section 9). A chain
of turns gives a sample for each: the later ones begin with what the earlier ones held, picture and text, and their
sources are the same objects, so that packing computes them once. To the fusion that is the authors' one sequence with
the intermediate picture as target and, at the same positions, as a clean source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ...model.sequence import Segment, TokenLayout
from ..stages import Dropout
from .example import Example
from .layouts import laid_out

Part = tuple[str, Image.Image | str]  # "clean" or "vit" with a picture, "text" with words
ENDS = " .,;?!"  # of a text behind which another goes on


@dataclass(frozen=True, eq=False)
class Plan:
    """What one sample will hold: its parts in order, and its target."""

    parts: tuple[Part, ...]
    target: Image.Image
    edit: bool


@dataclass(frozen=True, eq=False)
class VitPicture:
    """An RGB picture that the ViT is yet to see, at its size, as (rows, cols) of tokens."""

    image: Image.Image
    rows: int
    cols: int


@dataclass(frozen=True, eq=False)
class Sample:
    """What the model sees of one target.

    segments: in order, the noised target last. Their layout is not kept: its mask has a byte for each pair of tokens.
    contents: what its segments hold, the target's last: `Content` or `VitPicture` and None, or, where the VLM has read
        them, `EncodedSegment`s. Samples of one example share those that are the same.
    target: normalised latents [C, h, w].
    """

    segments: tuple[Segment, ...]
    contents: Sequence[Any]
    target: Tensor
    edit: bool

    @property
    def tokens(self) -> int:
        """All of them."""
        return sum(segment.length for segment in self.segments)

    @property
    def layout(self) -> TokenLayout:
        """Laid out anew whenever it is asked for, unless the sample is short."""
        return laid_out(self.segments)


def joined(example: Example) -> Example:
    """A chain of turns as one turn: the instructions together, the last picture."""
    if len(example.turns) == 1:
        return example
    text = ", ".join([*(turn.text.rstrip(ENDS) for turn in example.turns[:-1]), example.turns[-1].text])
    return Example(example.sources, (replace(example.turns[-1], text=text),))


def thoughts_joined(example: Example) -> Example:
    """An example whose thoughts are in one text with what was asked for."""
    said = (f"{turn.text.rstrip(ENDS)}. {turn.thought}" if turn.thought else turn.text for turn in example.turns)
    turns = (replace(turn, text=text, thought="") for turn, text in zip(example.turns, said, strict=True))
    return Example(example.sources, tuple(turns))


def plan(example: Example, dropout: Dropout, rng: np.random.Generator) -> list[Plan]:
    """The samples of one example, one for each turn, with the segments that stay.

    Each source picture is a clean VAE segment and then a ViT segment; after them comes the text (docs/model.md,
    section 4).
    """

    def keeps(share: float) -> bool:
        return bool(rng.random() >= share)

    def seen(pictures: Sequence[Image.Image]) -> list[Part]:
        shares = {"clean": dropout.clean, "vit": dropout.vit}
        return [(kind, picture) for picture in pictures for kind, share in shares.items() if keeps(share)]

    parts = seen(example.sources)
    found = []
    for number, turn in enumerate(example.turns):
        if number:
            parts += seen([example.turns[number - 1].target])
        if keeps(dropout.text):
            parts.append(("text", turn.text))
        elif not keeps(dropout.empty):
            parts.append(("text", ""))
        if turn.thought and keeps(dropout.text):
            parts.append(("text", turn.thought))
        found.append(Plan(tuple(parts), turn.target, example.edit or number > 0))
    return found
