"""The nano's world: plain backgrounds with one or two coloured shapes, and the sentences about them.

Everything is drawn from a `numpy.random.Generator`, so a sample is reproduced by its seed. Sentences leave things out
on purpose: a prompt without a size may be drawn in either size, one without a background is white, a single shape
without a place stands in the centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

SIZE = 128  # pixels, both sides
PALETTE = {
    "red": (222, 40, 40),
    "green": (36, 160, 60),
    "blue": (40, 80, 224),
    "yellow": (245, 208, 40),
    "white": (250, 250, 250),
    "grey": (140, 140, 140),
    "black": (20, 20, 20),
}
COLOURS = ("red", "green", "blue", "yellow")
BACKGROUNDS = ("white", "yellow", "grey", "black")
SHAPES = ("circle", "square", "star")
RADIUS = {"small": 12, "large": 19}
PLACES = {"left": (22, 64), "right": (106, 64), "top": (64, 22), "bottom": (64, 106), "centre": (64, 64)}
PLACE_PHRASE = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "centre": "in the centre",
}
RELATION = {
    ("left", "right"): "left of",
    ("right", "left"): "right of",
    ("top", "bottom"): "above",
    ("bottom", "top"): "below",
}
JITTER = 2  # pixels either way, so that a picture holds more than its caption says
DESCRIBE = "describe the image"


@dataclass(frozen=True)
class Thing:
    """One shape. `dx`, `dy` move it from its named place, in pixels."""

    shape: str
    colour: str
    size: str
    place: str
    dx: int = 0
    dy: int = 0

    @property
    def centre(self) -> tuple[int, int]:
        x, y = PLACES[self.place]
        return x + self.dx, y + self.dy

    @property
    def attributes(self) -> tuple[str, str, str, str]:
        return self.shape, self.colour, self.size, self.place


@dataclass(frozen=True)
class Scene:
    """A background and up to two things at different places, in canonical order (left or top or centre first)."""

    background: str
    things: tuple[Thing, ...] = ()

    def ordered(self) -> Scene:
        rank = {"centre": 0, "left": 1, "top": 2, "right": 3, "bottom": 4}
        return replace(self, things=tuple(sorted(self.things, key=lambda t: rank[t.place])))

    @property
    def attributes(self) -> tuple[str, frozenset[tuple[str, str, str, str]]]:
        return self.background, frozenset(t.attributes for t in self.things)


@cache
def shape_mask(shape: str, size: str) -> np.ndarray:
    """Coverage of a shape in [0, 1], float32 [49, 49], centred on pixel (24, 24); edges are antialiased."""
    scale, half = 8, 24
    canvas = Image.new("L", ((2 * half + 1) * scale,) * 2, 0)
    c, r = (half + 0.5) * scale, RADIUS[size] * scale
    draw = ImageDraw.Draw(canvas)
    if shape == "circle":
        draw.ellipse((c - r, c - r, c + r, c + r), fill=255)
    elif shape == "square":
        draw.rectangle((c - 0.9 * r, c - 0.9 * r, c + 0.9 * r, c + 0.9 * r), fill=255)
    elif shape == "star":
        angles = -np.pi / 2 + np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, 1.15 * r, 0.5 * r)
        draw.polygon([(c + q * np.cos(a), c + q * np.sin(a)) for q, a in zip(radii, angles, strict=True)], fill=255)
    else:
        raise ValueError(f"no such shape: {shape}")
    return np.asarray(canvas.reduce(scale), np.float32) / 255


def coverage(thing: Thing) -> np.ndarray:
    """How much of each pixel a thing covers, float32 [128, 128] in [0, 1]."""
    x0, y0 = thing.centre[0] - 24, thing.centre[1] - 24
    top, left = max(0, -y0), max(0, -x0)
    bottom, right = min(49, SIZE - y0), min(49, SIZE - x0)
    cover = np.zeros((SIZE, SIZE), np.float32)
    cover[y0 + top : y0 + bottom, x0 + left : x0 + right] = shape_mask(thing.shape, thing.size)[top:bottom, left:right]
    return cover


def render(scene: Scene) -> np.ndarray:
    """The picture of a scene, uint8 [128, 128, 3]."""
    picture = np.empty((SIZE, SIZE, 3), np.float32)
    picture[:] = PALETTE[scene.background]
    for thing in scene.things:
        picture += coverage(thing)[..., None] * (np.array(PALETTE[thing.colour], np.float32) - picture)
    return np.rint(picture).astype(np.uint8)


T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def random_thing(rng: np.random.Generator, place: str, background: str) -> Thing:
    dx, dy = (int(v) for v in rng.integers(-JITTER, JITTER + 1, 2))
    colours = [c for c in COLOURS if c != background]
    return Thing(pick(rng, SHAPES), pick(rng, colours), pick(rng, tuple(RADIUS)), place, dx, dy)


def places_beside(place: str) -> list[str]:
    """Where a second thing may stand: the opposite side, or for the centre any side (and the other way round)."""
    if place == "centre":
        return ["left", "right", "top", "bottom"]
    return [next(b for a, b in RELATION if a == place), "centre"]


def second_thing(rng: np.random.Generator, first: Thing, place: str, background: str) -> Thing:
    """A thing beside another; two large ones next to each other would touch, so there the second is small."""
    thing = random_thing(rng, place, background)
    return replace(thing, size="small") if "centre" in (place, first.place) and first.size == "large" else thing


def random_scene(rng: np.random.Generator, count: int | None = None) -> Scene:
    """A scene of 0 (rare), 1 or 2 things."""
    if count is None:
        count = int(rng.choice(3, p=(0.03, 0.42, 0.55)))
    background = pick(rng, BACKGROUNDS)
    things: list[Thing] = []
    if count >= 1:
        things.append(random_thing(rng, pick(rng, tuple(PLACES)), background))
    if count == 2:
        opposite, *others = places_beside(things[0].place)
        place = pick(rng, [opposite, *others]) if things[0].place == "centre" or rng.random() < 0.25 else opposite
        things.append(second_thing(rng, things[0], place, background))
    return Scene(background, tuple(things)).ordered()


# --- sentences -------------------------------------------------------------------------------------------------------


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
        body = " and ".join(f"{noun(t)} {PLACE_PHRASE[t.place]}" for t in things)
    return f"{body} on a {scene.background} background"


def random_prompt(rng: np.random.Generator) -> tuple[str, Scene]:
    """A prompt and one scene it describes; what the prompt leaves open is random in the scene."""
    scene = random_scene(rng)
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
    if kind == "background":
        options = [b for b in BACKGROUNDS if b != source.background and all(t.colour != b for t in source.things)]
        new = pick(rng, options)
        return source, f"change the background to {new}", replace(source, background=new)
    if kind == "add":
        place = pick(rng, places_beside(source.things[0].place))
        thing = second_thing(rng, source.things[0], place, source.background)
        words = f"add {noun(thing, rng.random() < 0.7)} {PLACE_PHRASE[place]}"
        return source, words, replace(source, things=(*source.things, thing)).ordered()
    thing = pick(rng, source.things)
    name = reference(rng, source, thing)
    kept = tuple(t for t in source.things if t is not thing)
    if kind == "remove":
        return source, f"remove the {name}", replace(source, things=kept)
    if kind == "recolour":
        colour = pick(rng, [c for c in COLOURS if c not in (thing.colour, source.background)])
        new_thing, words = replace(thing, colour=colour), f"make the {name} {colour}"
    else:
        shape = pick(rng, [s for s in SHAPES if s != thing.shape])
        new_thing, words = replace(thing, shape=shape), f"replace the {name} with a {shape}"
    return source, words, replace(source, things=(*kept, new_thing)).ordered()


def random_question(rng: np.random.Generator, scene: Scene) -> tuple[str, str]:
    """A question about a scene and its short answer."""
    count = ("none", "one", "two")[len(scene.things)]
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
