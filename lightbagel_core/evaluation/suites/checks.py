"""Whether an edit was done, and whether all that it did not name was kept; scenes are compared, nothing is learned.

A thing is known by its place: the reader finds it wherever it stands within ten pixels of one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ...world.arrangements import lies_between
from ...world.edits import ATTRIBUTES, Change
from ...world.scenes import Scene, Thing
from ...world.sentences import PLACE_PHRASE

TOLERANCE = 2  # pixels that a centre may move
BETWEEN = "removed from between others"
CASES = ("one thing", "two things", "two of one shape", "two of one colour", "three things", BETWEEN)
UNREADABLE = "the picture shows no clear scene"


@dataclass(frozen=True)
class Verdict:
    """What became of an edit. done: what was named is so. kept: all else is as it was. reason: what is wrong."""

    done: bool
    kept: bool
    reason: str = ""

    @property
    def right(self) -> bool:
        return self.done and self.kept


def at(scene: Scene, place: str) -> Thing | None:
    """The thing at a place of a scene."""
    return next((t for t in scene.things if t.place == place), None)


def not_done(change: Change, before: Scene, seen: Scene, added: Collection[str] = ()) -> list[str]:
    """Says what of a change is not so in the scene that is seen; nothing where it was done.

    Args:
        added: places where the instruction wants new things: those did not come from where one is to be removed.
    """
    if change.kind == "background":
        asked = change.wanted["background"]
        return [] if seen.background == asked else [f"the background is {seen.background}, not {asked}"]
    thing, where = at(seen, change.place), PLACE_PHRASE[change.place]
    if change.kind == "remove":
        gone = at(before, change.place)
        if thing is not None:
            return [f"there is still a thing {where}"]
        return [
            f"the {t.colour} {t.shape} only went to another place: {PLACE_PHRASE[t.place]}"
            for t in seen.things
            if gone is not None and t.place not in added and at(before, t.place) is None
            if (t.shape, t.colour) == (gone.shape, gone.colour)
        ]
    if thing is None:
        return [f"there is nothing {where}"]
    return [
        f"the {name} of the thing {where} is {getattr(thing, name)}, not {value}"
        for name, value in change.wanted.items()
        if getattr(thing, name) != value
    ]


def not_kept(changes: Sequence[Change], before: Scene, seen: Scene) -> list[str]:
    """Says what the changes did not name and is not as it was: of other things their attributes and centres, of the
    named ones what was not named of them, the number of things, the background.
    """
    named = {change.place: change for change in changes}
    wrong = []
    if "" not in named and seen.background != before.background:
        wrong.append(f"the background became {seen.background}")
    for thing in before.things:
        change, now, where = named.get(thing.place), at(seen, thing.place), PLACE_PHRASE[thing.place]
        if change is not None and change.kind == "remove":
            continue
        if now is None:
            wrong.append(f"the thing {where} is gone")
            continue
        free = () if change is None else tuple(change.wanted)
        wrong += [
            f"the {name} of the thing {where} became {getattr(now, name)}"
            for name in ATTRIBUTES
            if name not in free and getattr(now, name) != getattr(thing, name)
        ]
        if max(abs(now.dx - thing.dx), abs(now.dy - thing.dy)) > TOLERANCE:
            wrong.append(f"the thing {where} moved")
    places = [thing.place for thing in seen.things]
    for place in dict.fromkeys(places):
        if (at(before, place) is None and place not in named) or places.count(place) > 1:
            wrong.append(f"there is another thing {PLACE_PHRASE[place]}")
    return wrong


def judge(changes: Sequence[Change], before: Scene, seen: Scene | None) -> Verdict:
    """What became of an edit of one or several changes.

    Args:
        before: the scene of the source. seen: what was read off the result; None where it shows no clear scene, and
            then nothing was done and nothing kept.
    """
    if seen is None:
        return Verdict(False, False, UNREADABLE)
    added = [change.place for change in changes if change.kind == "add"]
    undone = [line for change in changes for line in not_done(change, before, seen, added)]
    lost = not_kept(changes, before, seen)
    return Verdict(not undone, not lost, "; ".join([*undone, *lost]))


def cases(changes: Sequence[Change], before: Scene) -> tuple[str, ...]:
    """Which of the cases of `CASES` an edit is; it may be several."""
    count = len(before.things)
    added = [change.wanted for change in changes if change.kind == "add"]
    removed = [at(before, change.place) for change in changes if change.kind == "remove"]
    holds = (
        count == 1,
        count == 2,
        len({t.shape for t in before.things}) < count,
        len({t.colour for t in before.things}) < count,
        count == 3,
        any(thing is not None and not _moved(thing, added) and lies_between(before, thing) for thing in removed),
    )
    return tuple(name for name, held in zip(CASES, holds, strict=True) if held)


def _moved(thing: Thing, added: Sequence[Mapping[str, str]]) -> bool:
    """Whether what is removed at one place is what is added at another."""
    return any((wanted["shape"], wanted["colour"]) == (thing.shape, thing.colour) for wanted in added)
