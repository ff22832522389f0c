"""Sentences of the nano's world: what is said of a scene is true of it, and words that single out a thing do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from instructions import COLOUR, PLACE, SHAPE, SIZE, meant
from scenes import BLUE, PAIR, RED

from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.scenes import COLOURS, PLACES, RELATION, Scene, Thing, pick
from lightbagel_core.world.sentences import (
    BESIDE,
    IN_ORDER,
    NUMBERS,
    OPENINGS,
    PLACE_PHRASE,
    caption,
    listed,
    noun,
    prompt_for,
    random_prompt,
    reference,
    short_prompt,
    tersely,
)


def test_captions():
    assert caption(PAIR) == "a large red circle left of a small blue square on a white background"
    assert caption(Scene("black")) == "a plain black background"
    corner = Scene("grey", (replace(RED, place="centre"), replace(BLUE, place="top")))
    assert caption(corner) == "a large red circle in the centre and a small blue square at the top on a grey background"
    three = replace(corner, things=(*corner.things, replace(BLUE, shape="star", place="right")))
    assert caption(three) == (
        "a large red circle in the centre, a small blue square at the top and a small blue star on the right"
        " on a grey background"
    )
    four = caption(replace(three, things=(*three.things, replace(RED, size="small", place="left"))))
    assert four.startswith("a large red circle in the centre, a small red circle on the left, a small blue square at")


def test_nouns_and_lists():
    assert [noun(RED), noun(RED, False), noun(RED, True, False), noun(RED, False, False)] == [
        "a large red circle", "a red circle", "a large circle", "a circle",
    ]  # fmt: skip
    assert [listed(list("abc")[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


@pytest.fixture(scope="module")
def prompts() -> list[tuple[str, Scene]]:
    rng = np.random.default_rng(3)
    return [random_prompt(rng) for _ in range(1500)]


Holds = Callable[[Thing], bool]


def things_said(body: str) -> list[Holds]:
    """For each thing that a prompt speaks of, whether what it says holds for a thing."""
    body = " ".join(word for word in body.split() if word not in ("a", "the", "at", "in", "on", "of"))
    found: list[Holds] = []
    for number, size, colour, shape, several, place in re.findall(
        rf"(?:({'|'.join(NUMBERS[2:])}) )?(?:({SIZE}) )?(?:({COLOUR}) )?({SHAPE})(s?)(?: ({PLACE})(?=,| and|$))?", body
    ):
        assert bool(number) == bool(several), body
        said = {"shape": shape, "size": size, "colour": colour, "place": place}
        said = {name: value for name, value in said.items() if value}
        found += [lambda t, said=said: all(getattr(t, n) == v for n, v in said.items())] * (
            NUMBERS.index(number) if number else 1
        )
    return found


def test_a_prompt_is_true_of_its_scene(prompts):
    """By another rule than the one that wrote it: every noun holds for a thing of its own, and none is left."""
    for prompt, scene in prompts:
        body, background = split(prompt)
        assert scene.background == background, prompt
        said = things_said(body)
        assert len(said) == len(scene.things), prompt
        assert any(all(holds(t) for holds, t in zip(said, order, strict=True)) for order in permutations(scene.things))


def split(prompt: str) -> tuple[str, str]:
    """(What a prompt says of things, its background: white where it names none)."""
    for opening in (*OPENINGS, *(tersely(Never(), opening) + " " for opening in OPENINGS)):
        prompt = prompt.removeprefix(opening)
    if found := re.fullmatch(rf"(?:a )?(?:plain )?({COLOUR}) background", prompt):
        return "", found[1]
    found = re.fullmatch(rf"(.+?)(?: (?:on|with) (?:a )?({COLOUR}) background| on ({COLOUR}))?", prompt)
    return found[1], found[2] or found[3] or "white"


class Never:
    """In place of random numbers: whatever may be left out is."""

    def random(self) -> float:
        return 0.0


def test_relations_are_true(prompts):
    count = 0
    for prompt, scene in prompts:
        found = re.search(
            rf"({SHAPE}) ({'|'.join(RELATION.values())}) (?:a )?(?:{SIZE})? ?(?:{COLOUR})? ?({SHAPE})", prompt
        )
        if found:
            (pair,) = (places for places, word in RELATION.items() if word == found[2])
            at = {t.place: t.shape for t in scene.things}
            assert [at[place] for place in pair] == [found[1], found[3]], prompt
            count += 1
    assert count > 40


def test_prompts_are_said_in_many_ways(prompts):
    """Each of these is some share of them; a way that is never drawn would not be learned."""
    ways = {
        "no background": lambda p: "background" not in p and " on " not in p and " with " not in p,
        "a background by its colour alone": lambda p: re.search(rf" on ({COLOUR})$", p),
        "with a background": lambda p: " with " in p and p.endswith(" background"),
        "a number": lambda p: re.search(rf"\b({'|'.join(NUMBERS[2:])})\b", p),
        "a thing without a colour": lambda p: re.search(rf"(a|{SIZE}) ({SHAPE})\b", p),
        "a relation": lambda p: any(f" {word} " in p for word in RELATION.values()),
        "beside": lambda p: any(words in p for words in BESIDE),
        "an opening": lambda p: any(p.startswith(opening) for opening in OPENINGS),
        "no articles": lambda p: "a" not in p.split() and " on " in p,
        "four things": lambda p: len(things_said(split(p)[0])) == 4,
    }
    for way, holds in ways.items():
        assert sum(bool(holds(prompt)) for prompt, _ in prompts) > 10, way


def test_a_white_background_may_go_unsaid_and_no_other(prompts):
    rng = np.random.default_rng(4)
    for _ in range(300):
        scene = random_scene(rng)
        _, drawn = prompt_for(rng, scene)
        assert Counter(map(look, drawn.things)) == Counter(map(look, scene.things))
        assert drawn.background in (scene.background, "white")
        assert all(t.colour != drawn.background for t in drawn.things)


def look(thing: Thing) -> tuple[str, str, str]:
    return thing.shape, thing.colour, thing.size


def test_where_no_place_is_named_several_things_stand_in_the_order_of_their_names(prompts):
    """From the left, clockwise; and where a place or a relation is named they stand as they did."""
    rng = np.random.default_rng(9)
    told = 0
    for _ in range(600):
        scene = random_scene(rng, int(rng.integers(2, 5)))
        words, drawn = pick(rng, (prompt_for, short_prompt))(rng, scene)
        if any(place in words for place in (*PLACES, *RELATION.values())):
            assert drawn.things == scene.things, words
            continue
        assert {t.place for t in drawn.things} == {*IN_ORDER[len(drawn.things)]}
        body, _ = split(words)
        clockwise = sorted(drawn.things, key=lambda t: ("left", "top", "right", "bottom").index(t.place))
        assert all(holds(thing) for holds, thing in zip(things_said(body), clockwise, strict=True)), words
        told += 1
    assert told > 150


def test_short_prompts_name_shapes_and_nothing_else_but_colours():
    rng = np.random.default_rng(4)
    coloured = related = 0
    for count in (1, 2, 3, 4) * 100:
        scene = random_scene(rng, count)
        words, drawn = short_prompt(rng, scene)
        colours = {thing.colour for thing in drawn.things}
        assert drawn.background not in colours
        assert drawn.background == ("white" if "white" not in colours else "black") or {"white", "black"} <= colours
        assert Counter(map(look, drawn.things)) == Counter(map(look, scene.things))
        assert count > 1 or drawn.things[0].place == "centre"
        said_apart = re.sub("|".join(RELATION.values()), "and", words)
        assert not {"large", "small", "on", "background", *PLACES} & {*said_apart.split()}, words
        said = things_said(said_apart)
        assert len(said) == count
        assert all(any(holds(thing) for thing in scene.things) for holds in said)
        coloured += bool(set(COLOURS) & set(words.split()))
        related += any(word in words for word in RELATION.values())
    assert 160 < coloured < 240
    assert 15 < related < 60


def test_people_leave_articles_out():
    assert tersely(Never(), "put a star on the left") == "put star on left"
    rng = np.random.default_rng(0)
    said = Counter(tersely(rng, "a star") for _ in range(1000))
    assert set(said) == {"a star", "star"}
    assert 0.05 < said["star"] / 1000 < 0.11


def test_words_that_single_out_a_thing_hold_for_it_alone():
    rng, forms = np.random.default_rng(5), Counter()
    for count in (1, 2, 3, 4) * 100:
        scene = random_scene(rng, count)
        for thing in scene.things:
            words = reference(rng, scene, thing)
            assert meant(words, scene) == [thing], (words, caption(scene))
            said = set(words.split())
            forms.update(name for name in ("shape", "colour", "size", "place") if getattr(thing, name) in said)
            forms["one"] += "one" in said
            forms["phrase"] += any(phrase in words for phrase in PLACE_PHRASE.values())
    assert min(forms.values()) > 50
    assert set(forms) == {"shape", "colour", "size", "place", "one", "phrase"}
