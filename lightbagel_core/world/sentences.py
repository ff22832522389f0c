"""Sentences about scenes of the nano's world: captions, prompts, edits, questions.

They leave things out on purpose: a prompt without a size may be drawn in either size, one without a background is
white, a single shape without a place stands in the centre.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .scenes import (
    BACKGROUNDS,
    COLOURS,
    PALETTE,
    RADIUS,
    RELATION,
    SHAPES,
    Scene,
    Thing,
    pick,
    places_beside,
    random_scene,
    second_thing,
)

PLACE_PHRASE = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "centre": "in the centre",
}
NUMBERS = (
    "none",
    "one",
    "two",
    "three",
    "four",
)  # the nano, which learnt two things, lacks the last two
DESCRIBE = "describe the image"


def noun(thing: Thing, with_size: bool = True) -> str:
    return f"a {thing.size} {thing.colour} {thing.shape}" if with_size else f"a {thing.colour} {thing.shape}"


def caption(scene: Scene) -> str:
    """The one full description of a scene; what the nano answers to "describe the image"."""
    if not scene.things:
        return f"a plain {scene.background} background"
    things = scene.ordered().things
    if len(things) == 2 and (things[0].place, things[1].place) in RELATION:
        body = f"{noun(things[0])} {RELATION[things[0].place, things[1].place]} {noun(things[1])}"
    else:
        *firsts, last = [f"{noun(t)} {PLACE_PHRASE[t.place]}" for t in things]
        body = f"{', '.join(firsts)} and {last}" if firsts else last
    return f"{body} on a {scene.background} background"


def random_prompt(rng: np.random.Generator) -> tuple[str, Scene]:
    """A prompt and one scene it describes; what the prompt leaves open is random in the scene."""
    return prompt_for(rng, random_scene(rng))


def prompt_for(rng: np.random.Generator, scene: Scene) -> tuple[str, Scene]:
    """A prompt for a scene of up to two things, and the scene it describes: a white background may go unsaid."""
    if rng.random() < 0.3:
        return caption(scene), scene
    if not scene.things:
        return f"a {scene.background} background", scene
    if rng.random() < 0.35 and all(t.colour != "white" for t in scene.things):
        scene, background = replace(scene, background="white"), ""
    else:
        background = f" on a {scene.background} background"
    things = list(scene.things)
    rng.shuffle(things)
    nouns = [noun(t, rng.random() < 0.6) for t in things]
    if len(things) == 1:
        silent = things[0].place == "centre" and rng.random() < 0.6
        return nouns[0] + ("" if silent else f" {PLACE_PHRASE[things[0].place]}") + background, scene
    pair = (things[0].place, things[1].place)
    if pair in RELATION:
        roll = rng.random()
        if roll < 0.6:
            return f"{nouns[0]} {RELATION[pair]} {nouns[1]}{background}", scene
        if roll < 0.75:
            return f"{nouns[0]} and {nouns[1]}{background}", scene
    body = " and ".join(f"{n} {PLACE_PHRASE[t.place]}" for n, t in zip(nouns, things, strict=True))
    return body + background, scene


def reference(rng: np.random.Generator, scene: Scene, thing: Thing) -> str:
    """Words that single out one thing of a scene, e.g. "circle", "blue circle", "circle on the left"."""
    others = [t for t in scene.things if t is not thing]
    forms = []
    if all(o.shape != thing.shape for o in others):
        forms += [thing.shape] * 3
    if all((o.shape, o.colour) != (thing.shape, thing.colour) for o in others):
        forms.append(f"{thing.colour} {thing.shape}")
    if all((o.shape, o.size) != (thing.shape, thing.size) for o in others):
        forms.append(f"{thing.size} {thing.shape}")
    if not forms or rng.random() < 0.1:
        forms = [f"{thing.shape} {PLACE_PHRASE[thing.place]}"]
    return pick(rng, forms)


EDITS = ("recolour", "replace", "remove", "add", "background")


def random_edit(rng: np.random.Generator, kind: str | None = None) -> tuple[Scene, str, Scene]:
    """(source, instruction, target); what the instruction does not name is the same in both, to the pixel."""
    kind = kind or pick(rng, EDITS)
    source = random_scene(rng, 1 if kind == "add" else None if kind == "background" else int(rng.integers(1, 3)))
    return source, *edit_of(rng, source, kind)


def edits_of(scene: Scene) -> tuple[str, ...]:
    """The kinds of edits that a scene of up to two things can be given."""
    if not scene.things:
        return ("background",)
    return tuple(kind for kind in EDITS if kind != "add" or len(scene.things) == 1)


def edit_of(rng: np.random.Generator, source: Scene, kind: str) -> tuple[str, Scene]:
    """(instruction, target) of a kind that `edits_of` the source names."""
    if kind == "background":
        options = [b for b in BACKGROUNDS if b != source.background and all(t.colour != b for t in source.things)]
        new = pick(rng, options)
        return f"change the background to {new}", replace(source, background=new)
    if kind == "add":
        place = pick(rng, places_beside(source.things[0].place))
        thing = second_thing(rng, source.things[0], place, source.background)
        words = f"add {noun(thing, rng.random() < 0.7)} {PLACE_PHRASE[place]}"
        return words, replace(source, things=(*source.things, thing)).ordered()
    thing = pick(rng, source.things)
    name = reference(rng, source, thing)
    kept = tuple(t for t in source.things if t is not thing)
    if kind == "remove":
        return f"remove the {name}", replace(source, things=kept)
    if kind == "recolour":
        colour = pick(rng, [c for c in COLOURS if c not in (thing.colour, source.background)])
        new_thing, words = replace(thing, colour=colour), f"make the {name} {colour}"
    else:
        shape = pick(rng, [s for s in SHAPES if s != thing.shape])
        new_thing, words = replace(thing, shape=shape), f"replace the {name} with a {shape}"
    return words, replace(source, things=(*kept, new_thing)).ordered()


def random_question(rng: np.random.Generator, scene: Scene) -> tuple[str, str]:
    """A question about a scene and its short answer."""
    count = NUMBERS[len(scene.things)]
    pairs = [
        ("what colour is the background?", scene.background),
        ("how many shapes are there?", count),
    ]
    asked = pick(rng, SHAPES)
    pairs.append((f"is there a {asked}?", "yes" if any(t.shape == asked for t in scene.things) else "no"))
    for thing in scene.things:
        name = reference(rng, scene, thing)
        pairs.append((f"where is the {name}?", PLACE_PHRASE[thing.place]))
        if sum(t.shape == thing.shape for t in scene.things) == 1:
            pairs += [(f"what colour is the {thing.shape}?", thing.colour)] * 2
            pairs.append((f"what size is the {thing.shape}?", thing.size))
        pairs.append((f"what is {PLACE_PHRASE[thing.place]}?", noun(thing)))
    return pick(rng, pairs)


def vocabulary() -> list[str]:
    """Every word the nano knows, sorted."""
    said = [*PALETTE, *SHAPES, *RADIUS, *PLACE_PHRASE.values(), *RELATION.values(), DESCRIBE]
    said.append("a and plain background change the to make replace with remove add ? . ,")
    said.append("what colour is how many shapes are there where size one two none yes no user assistant")
    return sorted({word for text in said for word in text.split()})
