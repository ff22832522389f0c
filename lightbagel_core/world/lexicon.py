"""Every word of the nano's world."""

from __future__ import annotations

from .edits import LARGER, SMALLER
from .scenes import PALETTE, RADIUS, RELATION, SHAPES
from .sentences import BESIDE, NUMBERS, OPENINGS, PLACE_PHRASE
from .stories import ORDER, UNDO


def vocabulary() -> list[str]:
    """Every word and mark that is said in the world, sorted."""
    said = [*PALETTE, *SHAPES, *(f"{shape}s" for shape in SHAPES), *RADIUS, *LARGER, *SMALLER]
    said += [*PLACE_PHRASE.values(), *RELATION.values(), *NUMBERS, *OPENINGS, *UNDO, *ORDER, *BESIDE]
    said.append("a and plain background change the to make replace with turn into use delete take away add put draw")
    said.append("keep other one swap them two shapes ones both all move it remove give please can you now then")
    said.append("what colour is how many shape are there where size yes no user assistant ? . ,")
    said.append("describe this image it what is in do you see")
    return sorted({word for text in said for word in text.split()})
