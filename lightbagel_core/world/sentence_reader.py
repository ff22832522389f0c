"""The scene that a sentence of the nano's world describes: what `sentences.caption` says, the other way round.

Of prompts it reads the plain ones, which name every thing with its colour. What has other words is refused, not guessed
at: counts, things without a colour, "next to", a background that is called by its colour alone.
"""

from __future__ import annotations

import re

from .scenes import BACKGROUNDS, COLOURS, MOST, RADIUS, RELATION, SHAPES, Scene, Thing
from .sentences import PLACE_PHRASE

_PLACES = {phrase: place for place, phrase in PLACE_PHRASE.items()}
_PAIRS = {relation: pair for pair, relation in RELATION.items()}
_NOUN = rf"a (?:({'|'.join(RADIUS)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_THING = re.compile(rf"{_NOUN}(?: ({'|'.join(_PLACES)}))?")
_BACKGROUND = re.compile(rf"(.*) on a ({'|'.join(BACKGROUNDS)}) background")
_EMPTY = re.compile(rf"a (?:plain )?({'|'.join(BACKGROUNDS)}) background")
_BETWEEN = re.compile(rf" ({'|'.join(_PAIRS)}) ")


def scene_of_sentence(sentence: str) -> Scene:
    """The scene that a sentence describes, each thing exactly at its named place.

    What the sentence leaves open: a size is large, or small beside another thing in the centre; a background is white;
    one thing stands in the centre, two without places stand left and right.

    Raises:
        ValueError: it is no such sentence, or says what cannot be drawn; the message says what a sentence looks like.
    """
    words = " ".join(sentence.lower().rstrip(" .").split())
    if found := _EMPTY.fullmatch(words):
        return Scene(found[1])
    body, background = words, "white"
    if found := _BACKGROUND.fullmatch(words):
        body, background = found[1], found[2]
    parts, places = _parts(body)
    things = [_THING.fullmatch(part) for part in parts]
    if not all(things) or len(things) > MOST:
        raise ValueError(
            f"{sentence!r} describes no scene of the nano's world; write, for instance, 'a large red circle left of a "
            "small blue star on a grey background'"
        )
    named = [
        (size, colour, shape, _PLACES.get(place, ""))
        for size, colour, shape, place in (t.groups() for t in things if t)
    ]
    if len(named) == 1:
        places = ["centre"]
    elif len(named) == 2 and not places and not any(place for *_, place in named):
        places = ["left", "right"]
    at = [place or other for (*_, place), other in zip(named, places or [""] * len(named), strict=True)]
    if "" in at or len(set(at)) < len(at):
        raise ValueError(f"{sentence!r} does not say of each thing at which place of its own it stands")
    if any(colour == background for _, colour, _, _ in named):
        raise ValueError(f"{sentence!r} has a thing in the background's colour, which nobody could see")
    crowded = "centre" in at and len(at) > 1
    made = [
        Thing(shape, colour, size or ("small" if crowded else "large"), place)
        for (size, colour, shape, _), place in zip(named, at, strict=True)
    ]
    return Scene(background, tuple(made)).ordered()


def _parts(body: str) -> tuple[list[str], list[str]]:
    """(the words for each thing, their places where a relation says them)."""
    if found := _BETWEEN.search(body):
        return [body[: found.start()], body[found.end() :]], list(_PAIRS[found[1]])
    return re.split(r", (?:and )?| and ", body), []
