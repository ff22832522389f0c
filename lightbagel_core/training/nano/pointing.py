"""Which thing each word of a question or an instruction names, for the VLM's throw-away head that is asked for it.

Nothing else makes a small VLM look for a thing by what it is called: an answer says so only at the end of two steps,
from the name to the thing and from the thing to the answer, and neither is worth anything without the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...world.edits import Change
from ...world.scenes import COLOURS, PLACES, RADIUS, SHAPES, Scene
from ...world.sentences import PLACE_PHRASE
from .codes import IGNORE

NOUNS = (*SHAPES, "one", "shape")


def pointed(tokens: Sequence[str], scene: Scene, changes: Sequence[Change] = ()) -> list[int]:
    """For each token the place of the thing that a name ending there singles out, as an index; IGNORE for all others.

    A name is a shape, "one" or "shape", with a size, a colour or both before it, or "on the left" and the like behind;
    after "a" it is no name, but a thing that is to be. What "it" and "the other one" mean, which the turn before may
    have said, shows in what an instruction changes.

    Args:
        changes: what the instruction asks for; none: it is a question.
    """
    labels = [IGNORE] * len(tokens)
    for at, word in enumerate(tokens):
        if changes and word == "it":
            labels[at] = _index(scene.things[0].place if len(scene.things) == 1 else changes[0].place)
        if changes and tuple(tokens[at - 1 : at + 1]) == ("other", "one"):
            labels[at] = _index(changes[-1].place)
        if word not in NOUNS:
            continue
        start = at
        while start and tokens[start - 1] in (*COLOURS, *RADIUS):
            start -= 1
        if start and tokens[start - 1] in ("a", "other", "with", "to", "into"):
            continue
        end, said = at, {*tokens[start : at + 1]}
        for place, phrase in PLACE_PHRASE.items():
            words = phrase.split()
            if list(tokens[at + 1 : at + 1 + len(words)]) == words:
                end, said = at + len(words), said | {place}
        meant = [thing for thing in scene.things if said - {"one", "shape"} <= {*thing.attributes}]
        if len(meant) == 1:
            labels[end] = _index(meant[0].place)
    return labels


def _index(place: str) -> int:
    return list(PLACES).index(place)
