"""Sentences about scenes of the nano's world: captions, prompts, and words that single out a thing.

They leave things out on purpose: a prompt without a size may be drawn in either size, one without a colour in any, one
without a background is white, or, where something white is asked for, black. A single shape without a place stands in
the centre; several stand in the order in which they are named, from the left, clockwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .arrangements import random_scene
from .scenes import BACKGROUNDS, RELATION, Scene, Thing, pick

PLACE_PHRASE = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "centre": "in the centre",
}
NUMBERS = ("none", "one", "two", "three", "four")
DESCRIBE = "describe the image"
SHOW_AND_TELL = (DESCRIBE, "describe this image", "describe it", "what is in the image?", "what do you see?")
BESIDE = (" next to ", " beside ")
IN_ORDER = {1: ("centre",), 2: ("left", "right"), 3: ("left", "top", "right"), 4: ("left", "top", "right", "bottom")}
OPENINGS = ("draw ", "please draw ", "an image of ", "an image with ")  # of prompts, now and then


def noun(thing: Thing, with_size: bool = True, with_colour: bool = True) -> str:
    """A thing with its article: "a large red circle"."""
    return " ".join(["a", *[thing.size] * with_size, *[thing.colour] * with_colour, thing.shape])


def listed(words: Sequence[str]) -> str:
    """Words in a row: "a, b and c"."""
    *firsts, last = words
    return f"{', '.join(firsts)} and {last}" if firsts else last


def caption(scene: Scene) -> str:
    """The one full description of a scene; what the nano answers to "describe the image"."""
    if not scene.things:
        return f"a plain {scene.background} background"
    things = scene.ordered().things
    if len(things) == 2 and (things[0].place, things[1].place) in RELATION:
        body = f"{noun(things[0])} {RELATION[things[0].place, things[1].place]} {noun(things[1])}"
    else:
        body = listed([f"{noun(t)} {PLACE_PHRASE[t.place]}" for t in things])
    return f"{body} on a {scene.background} background"


def unsaid_background(things: Sequence[Thing]) -> str:
    """The background of a prompt that names none: white, or the first of the others that no thing has."""
    return next(c for c in ("white", "black", *BACKGROUNDS) if all(t.colour != c for t in things))


def in_order(scene: Scene, things: Sequence[Thing]) -> Scene:
    """A scene whose things stand where a prompt that names no place has them: in this order from the left.

    Where they stand by chance, how many there are is a joint choice of all the places of a picture, each of which must
    hear the others' while all is noise; a model of few tokens then draws one too many.
    """
    placed = (replace(thing, place=place) for thing, place in zip(things, IN_ORDER[len(things)], strict=True))
    return replace(scene, things=tuple(placed)).ordered()


def random_prompt(rng: np.random.Generator) -> tuple[str, Scene]:
    """A prompt and one scene it describes; what the prompt leaves open is random in the scene."""
    return prompt_for(rng, random_scene(rng))


def short_prompt(rng: np.random.Generator, scene: Scene) -> tuple[str, Scene]:
    """A prompt as GenEval words it, of shapes alone or with their colours, for a scene of one thing or more; and that
    scene before the background that goes unsaid, its things in order where no relation is named.
    """
    coloured = bool(rng.random() < 0.5)
    things = [scene.things[int(i)] for i in rng.permutation(len(scene.things))]
    pair = (things[0].place, things[-1].place)
    scene = replace(scene, background=unsaid_background(things))
    if len(things) == 2 and pair in RELATION and rng.random() < 0.5:
        return f" {RELATION[pair]} ".join(noun(t, False, coloured) for t in things), scene
    names = [f"{t.colour} {t.shape}" if coloured else t.shape for t in things]
    said = Counter(names)
    words = listed([f"a {name}" if n == 1 else f"{NUMBERS[n]} {name}s" for name, n in said.items()])
    return words, in_order(scene, [t for name in said for t, own in zip(things, names, strict=True) if own == name])


def prompt_for(rng: np.random.Generator, scene: Scene) -> tuple[str, Scene]:
    """A prompt for a scene, and the scene it describes: a white background may go unsaid, and places, too."""
    words, scene = _prompt(rng, scene)
    if rng.random() < 0.12:
        words = pick(rng, OPENINGS) + words
    return tersely(rng, words), scene


def tersely(rng: np.random.Generator, words: str) -> str:
    """Words, now and then without their articles, as people write."""
    return " ".join(w for w in words.split() if w not in ("a", "the")) if rng.random() < 0.08 else words


def _prompt(rng: np.random.Generator, scene: Scene) -> tuple[str, Scene]:
    if rng.random() < 0.2:
        return caption(scene), scene
    if not scene.things:
        return f"a {pick(rng, ('', 'plain '))}{scene.background} background", scene
    background = ""
    if rng.random() < 0.35 and all(t.colour != "white" for t in scene.things):
        scene = replace(scene, background="white")
    else:
        forms = (" on a {} background", " on a {} background", " on a {} background", " with a {} background", " on {}")
        background = pick(rng, forms).format(scene.background)
    body, scene = _body(rng, scene)
    return body + background, scene


def _body(rng: np.random.Generator, scene: Scene) -> tuple[str, Scene]:
    """What stands in a scene, and mostly where; and the scene, its things in order where they are said without."""
    things = [scene.things[int(i)] for i in rng.permutation(len(scene.things))]
    groups = Counter((t.shape, t.colour) for t in things)
    if len({t.shape for t in things}) == 1 < len(things) and rng.random() < 0.6:
        return _counted(rng, things), in_order(scene, things)
    if len(groups) < len(things) and rng.random() < 0.4:
        some = [[t for t in things if (t.shape, t.colour) == key] for key in groups]
        words = [_counted(rng, same) if len(same) > 1 else noun(same[0], rng.random() < 0.5) for same in some]
        return listed(words), in_order(scene, [t for same in some for t in same])
    nouns = [noun(t, rng.random() < 0.6, rng.random() < 0.88) for t in things]
    if len(things) == 1:
        silent = things[0].place == "centre" and rng.random() < 0.6
        return nouns[0] + ("" if silent else f" {PLACE_PHRASE[things[0].place]}"), scene
    roll, pair = rng.random(), (things[0].place, things[1].place)
    if len(things) == 2 and pair in RELATION and roll < 0.6:
        return f"{nouns[0]} {RELATION[pair]} {nouns[1]}", scene
    if roll > 0.8:
        body = pick(rng, BESIDE).join(nouns) if len(things) == 2 and roll > 0.92 else listed(nouns)
        return body, in_order(scene, things)
    return listed([f"{n} {PLACE_PHRASE[t.place]}" for n, t in zip(nouns, things, strict=True)]), scene


def _counted(rng: np.random.Generator, things: Sequence[Thing]) -> str:
    """Things of one shape by their number: "three small red circles"; what size or colour they share may go unsaid."""
    sizes, colours = {t.size for t in things}, {t.colour for t in things}
    words = [NUMBERS[len(things)]]
    if len(sizes) == 1 and rng.random() < 0.6:
        words += sizes
    if len(colours) == 1 and rng.random() < 0.9:
        words += colours
    return " ".join([*words, f"{things[0].shape}s"])


def reference(rng: np.random.Generator, scene: Scene, thing: Thing, later: Scene | None = None) -> str:
    """Words that single out one thing of a scene, e.g. "circle", "blue circle", "blue one", "circle on the left".

    Args:
        later: another scene with the thing as it is, in which they do so, too.
    """
    forms = _names(scene, thing)
    if later is not None:
        there = set(_names(later, thing))
        forms = [name for name in forms if name in there]
    if not forms or rng.random() < 0.15:
        forms = [f"{pick(rng, (thing.shape, thing.shape, 'one', 'shape'))} {PLACE_PHRASE[thing.place]}"]
    return pick(rng, forms)


def _names(scene: Scene, thing: Thing) -> list[str]:
    """Names without a place that no other thing of a scene has, the likelier ones several times."""
    others = [t for t in scene.things if t != thing]
    forms = []
    if not others:
        forms.append("shape")
    if all(o.shape != thing.shape for o in others):
        forms += [thing.shape] * 4
    if all((o.shape, o.colour) != (thing.shape, thing.colour) for o in others):
        forms += [f"{thing.colour} {thing.shape}"] * 2
    if all((o.shape, o.size) != (thing.shape, thing.size) for o in others):
        forms.append(f"{thing.size} {thing.shape}")
    if others and all(o.colour != thing.colour for o in others):
        forms.append(f"{thing.colour} one")
    if others and all(o.size != thing.size for o in others):
        forms.append(f"{thing.size} one")
    return forms
