"""What can be asked of a model of the nano's world: a picture from a prompt, an edit, edits in turns, two pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrangements import fits, random_scene
from .edits import (
    ATTRIBUTES,
    CHANGES,
    KINDS,
    Change,
    Edit,
    Impossible,
    change_of,
    edit_of,
    other_one,
    possible,
    random_edit,
)
from .scenes import Scene, pick
from .sentences import prompt_for, reference, short_prompt, tersely

UNDO = ("undo that", "undo that", "undo", "undo it", "go back", "undo the last change")
FOLLOWING = {"reference": 0.35, "other": 0.25, "undo": 0.15, "edit": 0.25}  # what a later turn may be, and how often
SHORT = 0.2  # of the prompts for things: they say no more than GenEval's
NAMED = ("add", "replace", "recolour", "resize")  # after these there is an "it"


@dataclass(frozen=True)
class Turn:
    """What is asked in words and the scene that is wanted.

    changes: of the scene before; none where it is drawn from nothing, or a change is undone.
    """

    words: str
    target: Scene
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Story:
    """The scenes that are shown first, and one turn after another. edited: which of several the first turn changes."""

    sources: tuple[Scene, ...]
    turns: tuple[Turn, ...]
    edited: int = 0


def random_story(
    rng: np.random.Generator, edits: float = 0.6, chains: float = 0.0, pairs: float = 0.0, others: float = 0.0
) -> Story:
    """A story of any kind.

    Args:
        edits: share of those that begin with a picture. chains, pairs, others: shares among these of two turns, of two
            pictures, and of sentences that say "the other one" in one turn, which `random_edit` seldom has.
    """
    if rng.random() >= edits:
        scene = random_scene(rng)
        short = bool(scene.things) and rng.random() < SHORT
        words, scene = (short_prompt if short else prompt_for)(rng, scene)
        return Story((), (Turn(words, scene),))
    roll = rng.random()
    if roll < pairs:
        return random_pair(rng)
    second = None
    if roll < pairs + chains:
        edit, second = random_chain(rng)
    elif roll < pairs + chains + others:
        edit = other_one(rng)
    else:
        edit = random_edit(rng)
    first = Turn(politely(rng, edit.words), edit.target, edit.changes)
    return Story((edit.source,), (first,) if second is None else (first, second))


def random_chain(rng: np.random.Generator) -> tuple[Edit, Turn]:
    """An edit and a turn that can follow it: the turn's kind is drawn first, since few edits leave an "other one"."""
    kind = str(rng.choice(list(FOLLOWING), p=list(FOLLOWING.values())))
    named = kind in ("reference", "other")
    while True:
        edit = random_edit(rng, pick(rng, NAMED) if named else None, False if kind == "other" else None)
        try:
            return edit, FOLLOW[kind](rng, edit)
        except Impossible:
            continue


def politely(rng: np.random.Generator, words: str) -> str:
    """An instruction as people say it, now and then with a word around it, or without its articles."""
    roll, words = rng.random(), tersely(rng, words)
    forms = {0.05: "please {}", 0.08: "{}, please", 0.11: "can you {}?", 0.18: "{}."}
    return next((form.format(words) for most, form in forms.items() if roll < most), words)


def following(rng: np.random.Generator, edit: Edit, kind: str) -> Turn:
    """The turn after an edit: of what that named, of the other thing, its undoing, or an edit of its own.

    Raises:
        Impossible: no turn of this kind can follow.
    """
    for _ in range(100):
        try:
            return FOLLOW[kind](rng, edit)
        except Impossible as problem:
            said = problem
    raise said


def _turn(edit: Edit, words: str, *changes: Change) -> Turn:
    """A turn of changes of the scene that an edit ended in. Raises Impossible where that cannot be."""
    return Turn(words, possible(Edit(edit.target, words, changes)).target, changes)


def _reference(rng: np.random.Generator, edit: Edit) -> Turn:
    last = edit.changes[-1]
    if len(edit.changes) > 1 or last.kind not in NAMED:
        raise Impossible('there is no "it"')
    (thing,) = (t for t in edit.target.things if t.place == last.place)
    kind = pick(rng, ("recolour", "recolour", "remove", "resize", "replace"))
    words, wanted = CHANGES[kind](rng, "it", thing)
    return _turn(edit, words, Change(kind, thing.place, wanted))


def _other(rng: np.random.Generator, edit: Edit) -> Turn:
    last = edit.changes[-1]
    if len(edit.changes) > 1 or last.kind not in NAMED or len(edit.target.things) != 2:
        raise Impossible('there is no "other one"')
    (thing,) = (t for t in edit.target.things if t.place != last.place)
    kind = pick(rng, ("recolour", "recolour", "remove", "resize", "replace"))
    words, wanted = CHANGES[kind](rng, "the other one", thing)
    return _turn(edit, words, Change(kind, thing.place, wanted))


def _undo(rng: np.random.Generator, edit: Edit) -> Turn:
    return Turn(pick(rng, UNDO), edit.source)


def _edit(rng: np.random.Generator, edit: Edit) -> Turn:
    """An edit of its own, mostly of something that the one before did not name."""
    kind = pick(rng, KINDS)
    named = [change.place for change in edit.changes]
    if kind in CHANGES and rng.random() < 0.7:
        words, change = change_of(rng, kind, edit.target, edit.target, named)
        turn = _turn(edit, words, change)
    else:
        after = edit_of(rng, edit.target, kind)
        turn = Turn(after.words, after.target, after.changes)
    if "it" in turn.words.split() and turn.changes[0].place not in named:
        raise Impossible('"it" is what the turn before named, and this turn changes something else')
    words = f"now {turn.words}" if rng.random() < 0.15 else turn.words
    return Turn(politely(rng, words), turn.target, turn.changes)


FOLLOW = {"reference": _reference, "other": _other, "undo": _undo, "edit": _edit}
ORDER = ("first", "second")


def random_pair(rng: np.random.Generator) -> Story:
    """Two pictures, and something of one that is wanted in the other: a thing, or the background."""
    while True:
        scenes = random_scene(rng, int(rng.integers(1, 3))), random_scene(rng, int(rng.integers(1, 3)))
        into = int(rng.random() < 0.25)
        base, other = scenes[into], scenes[1 - into]
        here, there = f"the {ORDER[into]} image", f"the {ORDER[1 - into]} image"
        if rng.random() < 0.2:
            words = f"give {here} the background of {there}"
            changes: tuple[Change, ...] = (Change("background", "", {"background": other.background}),)
            target = changes[0].apply(base)
        else:
            thing = pick(rng, other.things)
            if any(t.place == thing.place for t in base.things):
                continue
            name = reference(rng, other, thing)
            short = f"the {ORDER[into]}" if rng.random() < 0.6 else here
            words = pick(rng, ("put the {} of {} into {}", "put the {} of {} into {}", "add the {} of {} to {}"))
            words = words.format(name, there, short)
            changes = (Change("add", thing.place, {n: getattr(thing, n) for n in ATTRIBUTES}),)
            target = Scene(base.background, (*base.things, thing)).ordered()
        if target != base and fits(target):
            return Story(scenes, (Turn(politely(rng, words), target, changes),), into)
