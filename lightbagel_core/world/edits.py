"""Edits of scenes of the nano's world: what changes, and instructions that say so.

What an instruction does not name is the same before and after, to the pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .arrangements import fits, lies_between, random_scene, scene_of
from .scenes import BACKGROUNDS, COLOURS, MOST, PLACES, RADIUS, RELATION, SHAPES, Scene, Thing, pick
from .sentences import PLACE_PHRASE, noun, reference

ATTRIBUTES = ("shape", "colour", "size")
SINGLE = ("add", "remove", "replace", "recolour", "resize", "background")
KINDS = (*SINGLE, "compose", "swap", "both", "move")
SHARES = (0.06, 0.06, 0.11, 0.12, 0.04, 0.1, 0.21, 0.16, 0.08, 0.06)  # of each kind in `random_edit`: hard ones often
ORDINARY = 0.65  # share of edits whose pictures have two things at most
LARGER, SMALLER = ("larger", "bigger"), ("smaller",)


@dataclass(frozen=True)
class Change:
    """One thing that an instruction asks for.

    kind: one of `SINGLE`.
    place: of the thing that is meant; "" for the background.
    wanted: what the instruction says, by attribute: shape, colour, size; of the background {"background": its colour}.
    """

    kind: str
    place: str
    wanted: Mapping[str, str]

    def apply(self, scene: Scene) -> Scene:
        """A scene in which this was done; a new thing stands at its place exactly, small unless a size is wanted."""
        if self.kind == "background":
            return replace(scene, background=self.wanted["background"])
        others = tuple(t for t in scene.things if t.place != self.place)
        if self.kind == "remove":
            return replace(scene, things=others)
        if self.kind == "add":
            new = Thing(self.wanted["shape"], self.wanted["colour"], self.wanted.get("size", "small"), self.place)
        else:
            (old,) = (t for t in scene.things if t.place == self.place)
            said = {name: getattr(old, name) for name in ATTRIBUTES} | dict(self.wanted)
            new = Thing(said["shape"], said["colour"], said["size"], old.place, old.dx, old.dy)
        return replace(scene, things=(*others, new)).ordered()


@dataclass(frozen=True)
class Edit:
    """An instruction for a scene, what it asks for, and a scene in which that was done."""

    source: Scene
    words: str
    changes: tuple[Change, ...]

    @property
    def target(self) -> Scene:
        scene = self.source
        for change in self.changes:
            scene = change.apply(scene)
        return scene


class Impossible(ValueError):
    """What was drawn cannot be asked of this scene; draw again."""


def random_edit(rng: np.random.Generator, kind: str | None = None, crowded: bool | None = None) -> Edit:
    """An edit of a kind, or of a random one.

    Args:
        crowded: whether there are three or four things before or after, or never more than two; None: either.
    """
    kind = kind or KINDS[int(rng.choice(len(KINDS), p=SHARES))]
    if crowded is None:
        crowded = bool(rng.random() >= ORDINARY)
    while True:
        try:
            edit = edit_of(rng, source_of(rng, kind, crowded), kind)
        except Impossible:
            continue
        if (max(len(edit.source.things), len(edit.target.things)) > 2) == crowded:
            return edit


def source_of(rng: np.random.Generator, kind: str, crowded: bool) -> Scene:
    """A scene for an edit; where one of three is to be removed, most stand in a row."""
    if kind == "add":
        return random_scene(rng, int(rng.integers(2, MOST)) if crowded else int(rng.random() < 0.95))
    if not crowded:
        two = kind in ("swap", "both") or rng.random() < 0.5
        return random_scene(rng, 2 if two else int(rng.random() < 0.97 or kind != "background"))
    count = int(rng.integers(3, MOST + 1))
    row = (("left", "centre", "right"), ("top", "centre", "bottom"))
    in_row = kind == "remove" and count == 3 and rng.random() < 0.8
    return scene_of(rng, 3, places=pick(rng, row)) if in_row else random_scene(rng, count)


def edit_of(rng: np.random.Generator, source: Scene, kind: str) -> Edit:
    """An edit of a kind of one scene.

    Raises:
        Impossible: what was drawn cannot be done there; a later draw may.
    """
    if kind == "compose":
        words, changes = composed(rng, source)
    elif kind in SEVERAL:
        words, changes = SEVERAL[kind](rng, source)
    else:
        words, change = change_of(rng, kind, source, source)
        changes = (change,)
    return possible(Edit(source, words, changes))


def possible(edit: Edit) -> Edit:
    """The edit.

    Raises:
        Impossible: nothing would change, or into a scene that cannot be.
    """
    if edit.target == edit.source or not fits(edit.target) or len(edit.target.things) > MOST:
        raise Impossible("things would touch, vanish before the background, or be too many")
    return edit


def other_one(rng: np.random.Generator) -> Edit:
    """An edit of two things that names one and calls the other "the other one"."""
    while True:
        source = random_scene(rng, 2)
        try:
            return possible(Edit(source, *_other(rng, source)))
        except Impossible:
            continue


def change_of(
    rng: np.random.Generator, kind: str, source: Scene, now: Scene, named: Sequence[str] = ()
) -> tuple[str, Change]:
    """Words for one change of a scene, and the change; of things to remove, one that lies between others comes first.

    Args:
        kind: one of `SINGLE`. source: what the words refer to. now: the scene after the changes before this one.
        named: the places that those named.

    Raises:
        Impossible: see `edit_of`.
    """
    if kind == "background":
        words, change = _background(rng, now)
    elif kind == "add":
        words, change = _add(rng, source, now)
    else:
        things = [t for t in source.things if t.place not in named]
        if not things:
            raise Impossible("every thing is named already")
        between = [t for t in things if kind == "remove" and lies_between(source, t)]
        thing = pick(rng, between or things)
        alone = len(source.things) == len(now.things) == 1 and rng.random() < 0.15
        words, wanted = CHANGES[kind](rng, "it" if alone else f"the {reference(rng, source, thing, now)}", thing)
        change = Change(kind, thing.place, wanted)
    if not fits(change.apply(now)):
        raise Impossible("things would touch, or vanish before the background")
    return words, change


def _background(rng: np.random.Generator, now: Scene) -> tuple[str, Change]:
    colour = pick(rng, [b for b in BACKGROUNDS if b != now.background])
    forms = ("change the background to {}",) * 3 + ("make the background {}", "use a {} background")
    return pick(rng, forms).format(colour), Change("background", "", {"background": colour})


def _add(rng: np.random.Generator, source: Scene, now: Scene) -> tuple[str, Change]:
    taken = {t.place for t in (*source.things, *now.things)}
    free = [place for place in PLACES if place not in taken]
    if not free:
        raise Impossible("there is no room")
    new = Thing(pick(rng, SHAPES), pick(rng, COLOURS), pick(rng, tuple(RADIUS)), pick(rng, free))
    if new.colour == now.background:
        raise Impossible("nobody could see it")
    sized = bool(rng.random() < 0.7)
    where = PLACE_PHRASE[new.place]
    beside = [t for t in source.things if (new.place, t.place) in RELATION and t in now.things]
    if beside and rng.random() < 0.25:
        where = f"{RELATION[new.place, beside[0].place]} the {reference(rng, source, beside[0], now)}"
    wanted = {"shape": new.shape, "colour": new.colour} | ({"size": new.size} if sized else {})
    verb = pick(rng, ("add", "add", "add", "put", "draw"))
    return f"{verb} {noun(new, sized)} {where}", Change("add", new.place, wanted)


Words = tuple[str, dict[str, str]]


def _remove(rng: np.random.Generator, name: str, thing: Thing) -> Words:
    return pick(rng, ("remove {}",) * 3 + ("delete {}", "take away {}")).format(name), {}


def _replace(rng: np.random.Generator, name: str, thing: Thing) -> Words:
    shape = pick(rng, [s for s in SHAPES if s != thing.shape])
    wanted, said = {"shape": shape}, f"a {shape}"
    if rng.random() < 0.25:
        wanted["colour"] = pick(rng, COLOURS)
        said = f"a {wanted['colour']} {shape}"
    forms = ("replace {} with {}",) * 3 + ("change {} to {}", "make {} {}", "turn {} into {}")
    return pick(rng, forms).format(name, said), wanted


def _recolour(rng: np.random.Generator, name: str, thing: Thing) -> Words:
    colour = pick(rng, [c for c in COLOURS if c != thing.colour])
    forms = ("make {} {}",) * 3 + ("colour {} {}", "change {} to {}", "change the colour of {} to {}", "turn {} {}")
    return pick(rng, forms).format(name, colour), {"colour": colour}


def _resize(rng: np.random.Generator, name: str, thing: Thing) -> Words:
    size = next(s for s in RADIUS if s != thing.size)
    more = pick(rng, LARGER if size == "large" else SMALLER)
    return f"make {name} {pick(rng, (size, more))}", {"size": size}


CHANGES: Mapping[str, Callable[[np.random.Generator, str, Thing], Words]] = {
    "remove": _remove,
    "replace": _replace,
    "recolour": _recolour,
    "resize": _resize,
}


def composed(rng: np.random.Generator, source: Scene) -> tuple[str, tuple[Change, ...]]:
    """Two changes in one instruction, of different things or of a thing and the background."""
    if len(source.things) == 2 and rng.random() < 0.2:
        return _other(rng, source)
    words: list[str] = []
    changes: list[Change] = []
    now = source
    for kind in (pick(rng, SINGLE[:-1]), pick(rng, SINGLE)):
        said, change = change_of(rng, kind, source, now, [c.place for c in changes])
        words.append(said)
        changes.append(change)
        now = change.apply(now)
    return pick(rng, (" and ", " and ", ", then ")).join(words), tuple(changes)


def _other(rng: np.random.Generator, source: Scene) -> tuple[str, tuple[Change, ...]]:
    """Of two things, one that is named, and the other one."""
    one, other = (source.things[int(i)] for i in rng.permutation(2))
    name = reference(rng, source, one)
    words, wanted = CHANGES["recolour"](rng, "the other one", other)
    change = Change("recolour", other.place, wanted)
    roll = rng.random()
    if roll < 0.35:
        return f"keep the {name} and remove the other one", (Change("remove", other.place, {}),)
    if roll < 0.6:
        return f"keep the {name} and {words}", (change,)
    colour = pick(rng, [c for c in COLOURS if c != one.colour])
    first = Change("recolour", one.place, {"colour": colour})
    return f"make the {name} {colour} and the other one {wanted['colour']}", (first, change)


def _swap(rng: np.random.Generator, source: Scene) -> tuple[str, tuple[Change, ...]]:
    """Two things change places; each place keeps its centre."""
    if len(source.things) < 2:
        raise Impossible("there are no two things")
    a, b = (source.things[int(i)] for i in rng.permutation(len(source.things))[:2])
    names = reference(rng, source, a), reference(rng, source, b)
    words = "swap the {} and the {}".format(*names)
    if len(source.things) == 2 and rng.random() < 0.2:
        words = pick(rng, ("swap them", "swap the two shapes"))
    pairs = ((a, b), (b, a))
    return words, tuple(Change("replace", x.place, {n: getattr(y, n) for n in ATTRIBUTES}) for x, y in pairs)


def _both(rng: np.random.Generator, source: Scene) -> tuple[str, tuple[Change, ...]]:
    """All things, or all of one shape or colour, at once."""
    groups: list[tuple[str, list[Thing]]] = []
    for name in ("shape", "colour"):
        for value in dict.fromkeys(getattr(t, name) for t in source.things):
            same = [t for t in source.things if getattr(t, name) == value]
            if 1 < len(same) < len(source.things) or (len(same) > 1 and name == "shape"):
                groups.append((f"{value}s" if name == "shape" else f"{value} {pick(rng, ('ones', 'shapes'))}", same))
    things = list(source.things)
    name = ""
    if groups and rng.random() < 0.7:
        name, things = pick(rng, groups)
    if len(things) < 2:
        raise Impossible("there are no two things")
    every = "both" if len(things) == 2 else "all"
    said = pick(rng, (f"{every} {name}", f"the {name}")) if name else pick(rng, (every, f"{every} shapes", "them"))
    kind = pick(rng, ("recolour", "recolour", "recolour", "remove", "resize", "replace"))
    if kind == "remove":
        return f"{pick(rng, ('remove', 'remove', 'delete'))} {said}", tuple(Change(kind, t.place, {}) for t in things)
    if kind == "recolour":
        wanted, words = {"colour": pick(rng, COLOURS)}, "make {} {}"
    elif kind == "resize":
        wanted, words = {"size": pick(rng, tuple(RADIUS))}, "make {} {}"
    else:
        wanted, words = {"shape": pick(rng, SHAPES)}, "make {} {}s"
    changed = [t for t in things if any(getattr(t, k) != v for k, v in wanted.items())]
    (value,) = wanted.values()
    return words.format(said, value), tuple(Change(kind, t.place, wanted) for t in changed)


def _move(rng: np.random.Generator, source: Scene) -> tuple[str, tuple[Change, ...]]:
    """A thing to a free place, where it stands exactly."""
    free = [place for place in PLACES if place not in {t.place for t in source.things}]
    if not source.things:
        raise Impossible("there is nothing")
    thing, place = pick(rng, source.things), pick(rng, free)
    name = "it" if len(source.things) == 1 and rng.random() < 0.15 else f"the {reference(rng, source, thing)}"
    there = {n: getattr(thing, n) for n in ATTRIBUTES}
    return f"move {name} to the {place}", (Change("remove", thing.place, {}), Change("add", place, there))


SEVERAL: Mapping[str, Callable[[np.random.Generator, Scene], tuple[str, tuple[Change, ...]]]] = {
    "swap": _swap,
    "both": _both,
    "move": _move,
}
