"""What a conversation is made of, entry by entry, and what a drawing in it stands after. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..model.chat import Talk
from ..sampling.branches import Said

Part = Image.Image | str  # of a context: a picture, which has a clean VAE and a ViT content there, or a text


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture that was brought into the conversation."""

    picture: Image.Image


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture that was drawn.

    text: the prompt; of an edit, the instruction. edited: whether it was drawn after pictures, not of the text alone.
    history: how many earlier turns it was drawn after. settings: `Settings.to_dict` of the run.
    """

    text: str
    negative_prompt: str
    picture: Image.Image
    edited: bool
    history: int
    settings: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Answered:
    """A question and the VLM's answer. cut: whether the answer was ended by a bound on its length."""

    question: str
    answer: str
    cut: bool = False


Entry = Shown | Drawn | Answered


def pictures_of(entries: Sequence[Entry]) -> list[Image.Image]:
    """All pictures in order, shown ones and drawn ones."""
    return [entry.picture for entry in entries if not isinstance(entry, Answered)]


def turns_of(entries: Sequence[Entry]) -> tuple[list[Said[Part]], list[Image.Image]]:
    """The turns that an edit now would stand after, the oldest first, and its own pictures.

    A turn's pictures are those shown since the last drawing, and where there are none the last picture. A drawing of a
    prompt alone has no pictures and begins anew, and so does showing another picture than the last drawn one: no turn
    before it counts, since the chain that training knows goes on from what a turn has drawn.
    """
    turns: list[Said[Part]] = []
    own: list[Image.Image] = []  # of the turn that comes
    fresh = True  # whether what is shown next takes the place of `own`
    for entry in entries:
        if isinstance(entry, Shown):
            if fresh and not any(picture is entry.picture for picture in own):
                turns = []
            own = [entry.picture] if fresh else [*own, entry.picture]
            fresh = False
        elif isinstance(entry, Drawn):
            turns = [*turns, Said(own, entry.text)] if entry.edited else [Said([], entry.text)]
            own, fresh = [entry.picture], True
    return turns, own


def asking(entries: Sequence[Entry], question: str) -> Talk:
    """What the VLM is asked: all pictures, questions and answers in order, then the question. Of drawings it is shown
    the pictures alone, so that it says what it sees and not what was asked for.
    """
    messages: list[tuple[str, list[Part]]] = []
    pending: list[Part] = []
    for entry in entries:
        if isinstance(entry, Answered):
            messages += [("user", [*pending, entry.question]), ("assistant", [entry.answer])]
            pending = []
        else:
            pending.append(entry.picture)
    return Talk([*messages, ("user", [*pending, question])])
