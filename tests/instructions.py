"""Instructions of the nano's world read by another rule than the one that wrote them: what they name, what they ask."""

from __future__ import annotations

import re

from lightbagel_core.world.edits import ATTRIBUTES, Change
from lightbagel_core.world.scenes import COLOURS, PLACES, RADIUS, RELATION, SHAPES, Scene, Thing

SAID = {*SHAPES, *COLOURS, *RADIUS}
COLOUR, SHAPE, SIZE, PLACE, BESIDE = map("|".join, (COLOURS, SHAPES, RADIUS, PLACES, RELATION.values()))
THE = r"(it|the(?: (?!and )\w+)+?)"
GROUP = rf"(them|(?:both|all)(?: shapes)?|(?:both|all|the) (?:(?:{SHAPE})s|(?:{COLOUR}) (?:ones|shapes)))"
SIZES = {"small": "small", "smaller": "small", "large": "large", "larger": "large", "bigger": "large"}


def meant(words: str, scene: Scene) -> list[Thing]:
    """The things of a scene that words hold for, all that they say of shape, colour, size and place."""
    said = set(words.split())
    place = next((place for place in PLACES if place in said), None)
    return [t for t in scene.things if {t.shape, t.colour, t.size} >= SAID & said and place in (None, t.place)]


def plainly(words: str) -> str:
    """An instruction without the words that are said around it."""
    words = re.sub(r"^please |, please$|^can you |[?.]$", "", words)
    return words.removeprefix("now ")


def asked(words: str, scene: Scene, **called: str) -> set[tuple[str, str, frozenset[tuple[str, str]]]]:
    """What an instruction asks for, as `as_set` has it. Raises AssertionError where it cannot be told.

    Args:
        called: the places of what "it" and "other" (the other one) stand for.
    """
    for read in (_several, _one):
        changes = read(words, scene, called)
        if changes:
            return as_set(changes)
    parts = re.split(r" and |, then ", words)
    found = [_one(part, scene, called) for part in parts]
    assert len(found) == 2, words
    assert all(found), words
    return as_set([change for changes in found for change in changes])


def as_set(changes: object) -> set[tuple[str, str, frozenset[tuple[str, str]]]]:
    """Changes in no order."""
    return {(change.kind, change.place, frozenset(change.wanted.items())) for change in changes}


def _place(name: str, scene: Scene, called: dict[str, str]) -> str:
    """The place of the one thing that is named."""
    key = {"it": "it", "the other one": "other"}.get(name)
    if key in called:
        return called[key]
    found = meant(name, scene)
    assert len(found) == 1, f"{name!r} names {len(found)} things"
    return found[0].place


def _one(words: str, scene: Scene, called: dict[str, str]) -> list[Change]:
    def match(pattern: str) -> re.Match[str] | None:
        return re.fullmatch(pattern, words)

    if m := match(rf"(?:change the background to|make the background) ({COLOUR})|use a ({COLOUR}) background"):
        return [Change("background", "", {"background": m[1] or m[2]})]
    if m := match(rf"(?:add|put|draw) a (?:({SIZE}) )?({COLOUR}) ({SHAPE}) ((?:(?!and )\w+ ?)+)"):
        wanted = {"shape": m[3], "colour": m[2]} | ({"size": m[1]} if m[1] else {})
        if where := re.fullmatch(rf"({BESIDE}) (the .+)", m[4]):
            beside = _place(where[2], scene, called)
            return [Change("add", a, wanted) for (a, b), word in RELATION.items() if (b, word) == (beside, where[1])]
        (place,) = (place for place in PLACES if place in m[4].split())
        return [Change("add", place, wanted)]
    if m := match(rf"(?:remove|delete|take away) {THE}"):
        return [Change("remove", _place(m[1], scene, called), {})]
    replace = ("replace {} with", "change {} to", "make {}", "turn {} into")
    for form in replace:
        if m := match(rf"{form.format(THE)} a (?:({COLOUR}) )?({SHAPE})"):
            wanted = {"shape": m[3]} | ({"colour": m[2]} if m[2] else {})
            return [Change("replace", _place(m[1], scene, called), wanted)]
    if m := match(rf"change (?:the colour of )?{THE} to ({COLOUR})") or match(
        rf"(?:make|colour|turn) {THE} ({COLOUR})"
    ):
        return [Change("recolour", _place(m[1], scene, called), {"colour": m[2]})]
    if m := match(rf"make {THE} ({'|'.join(SIZES)})"):
        return [Change("resize", _place(m[1], scene, called), {"size": SIZES[m[2]]})]
    return []


def _several(words: str, scene: Scene, called: dict[str, str]) -> list[Change]:
    def match(pattern: str) -> re.Match[str] | None:
        return re.fullmatch(pattern, words)

    def whole(place: str) -> dict[str, str]:
        (thing,) = (t for t in scene.things if t.place == place)
        return {name: getattr(thing, name) for name in ATTRIBUTES}

    if m := match(rf"move {THE} to the ({PLACE})"):
        place = _place(m[1], scene, called)
        return [Change("remove", place, {}), Change("add", m[2], whole(place))]
    if m := match(rf"swap (?:them|the two shapes|{THE} and {THE})"):
        a, b = (_place(name, scene, called) for name in m.groups()) if m[1] else (t.place for t in scene.things)
        return [Change("replace", a, whole(b)), Change("replace", b, whole(a))]
    if m := match(rf"(?:remove|delete) {GROUP}"):
        return [Change("remove", t.place, {}) for t in _group(m[1], scene)]
    if m := match(rf"make {GROUP} ({'|'.join((*SAID, *(f'{shape}s' for shape in SHAPES)))})"):
        value = m[2].removesuffix("s")
        kinds = {"colour": "recolour", "size": "resize", "shape": "replace"}
        name = next(n for n, known in zip(kinds, (COLOURS, RADIUS, SHAPES), strict=True) if value in known)
        things = [t for t in _group(m[1], scene) if getattr(t, name) != value]
        return [Change(kinds[name], t.place, {name: value}) for t in things]
    both = match(rf"make {THE} ({COLOUR}) and (the other one .+)")
    if "other" not in called and (m := both or match(rf"keep {THE}() and (.*the other one.*)")):
        one = _place(m[1], scene, called)
        (other,) = (t.place for t in scene.things if t.place != one)
        first = [Change("recolour", one, {"colour": m[2]})] if both else []
        return [*first, *_one(f"make {m[3]}" if both else m[3], scene, {"other": other})]
    return []


def _group(said: str, scene: Scene) -> list[Thing]:
    """The things that "them", "both", "all", "the circles" or "all red ones" mean; "both" are two."""
    every, *name = said.split()
    things = meant(" ".join(name).replace("ones", "").replace("shapes", "").removesuffix("s"), scene)
    assert len(things) > 1
    assert every != "both" or len(things) == 2
    assert every != "all" or len(things) > 2
    return things
