"""Questions about scenes of the nano's world, and their short answers."""

from __future__ import annotations

import numpy as np

from .scenes import COLOURS, SHAPES, Scene, pick
from .sentences import NUMBERS, PLACE_PHRASE, noun, reference


def random_question(rng: np.random.Generator, scene: Scene) -> tuple[str, str]:
    """A question about a scene and its answer; every kind of question that the scene allows is equally likely."""
    return pick(rng, [pick(rng, kind) for kind in questions(rng, scene).values()])


def questions(rng: np.random.Generator, scene: Scene) -> dict[str, list[tuple[str, str]]]:
    """Questions with their answers, by kind; words that single out a thing are drawn anew each time."""
    things, shape, colour = scene.things, pick(rng, SHAPES), pick(rng, COLOURS)
    found = {
        "the background": [("what colour is the background?", scene.background)],
        "how many": [
            ("how many shapes are there?", NUMBERS[len(things)]),
            (f"how many {shape}s are there?", NUMBERS[sum(t.shape == shape for t in things)]),
            (f"how many {colour} shapes are there?", NUMBERS[sum(t.colour == colour for t in things)]),
        ],
        "is there": [
            (f"is there a {shape}?", _yes(any(t.shape == shape for t in things))),
            (f"is there a {colour} {shape}?", _yes(any((t.colour, t.shape) == (colour, shape) for t in things))),
        ],
    }
    if things:
        there = pick(rng, things)
        found["is there"].append((f"is there a {there.colour} {there.shape}?", "yes"))
        named = [(thing, reference(rng, scene, thing)) for thing in things]
        found["where"] = [(f"where is the {name}?", PLACE_PHRASE[thing.place]) for thing, name in named]
        found["what is where"] = [(f"what is {PLACE_PHRASE[thing.place]}?", noun(thing)) for thing in things]
        found["size"] = [(f"what size is the {name}?", thing.size) for thing, name in named if thing.size not in name]
        found["colour"] = [
            (f"what colour is the {name}?", thing.colour) for thing, name in named if thing.colour not in name
        ]
    return {kind: pairs for kind, pairs in found.items() if pairs}


def _yes(so: bool) -> str:
    return "yes" if so else "no"
