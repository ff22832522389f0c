"""Questions about scenes of the nano's world: answers are true, and no two contradict each other."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from instructions import COLOUR, PLACE, SHAPE, meant
from scenes import PAIR, RED

from lightbagel_core.world.arrangements import random_scene, scene_of
from lightbagel_core.world.questions import questions, random_question
from lightbagel_core.world.scenes import COLOURS, SHAPES, Scene
from lightbagel_core.world.sentences import NUMBERS, PLACE_PHRASE, noun

KINDS = ("the background", "how many", "is there", "where", "what is where", "size", "colour")


def answer(question: str, scene: Scene) -> str:
    """What is true, by another rule than the one that asked."""
    words = question.removesuffix("?")
    if words == "what colour is the background":
        return scene.background
    if found := re.fullmatch(rf"how many (?:({SHAPE})s|({COLOUR}) shapes|shapes) are there", words):
        return NUMBERS[len(meant(" ".join(filter(None, found.groups())), scene))]
    if found := re.fullmatch(r"is there (a .+)", words):
        return "yes" if meant(found[1], scene) else "no"
    if found := re.fullmatch(rf"what is \w+ the ({PLACE})", words):
        return noun(*meant(found[1], scene))
    asked, name = re.fullmatch(r"(where|what size|what colour) is (the .+)", words).groups()
    (thing,) = meant(name, scene)
    return {"where": PLACE_PHRASE[thing.place], "what size": thing.size, "what colour": thing.colour}[asked]


def test_every_answer_is_true():
    rng, kinds = np.random.default_rng(0), Counter()
    for _ in range(400):
        scene = random_scene(rng)
        for kind, pairs in questions(rng, scene).items():
            for question, said in pairs:
                assert answer(question, scene) == said, question
                kinds[kind] += 1
        question, said = random_question(rng, scene)
        assert answer(question, scene) == said
    assert set(kinds) == set(KINDS)


@pytest.mark.parametrize(("count", "said"), enumerate(NUMBERS))
def test_questions_about_up_to_four_things_agree_with_each_other(count, said):
    rng = np.random.default_rng(0)
    scene = scene_of(rng, count, places=("left", "top", "right", "bottom")[:count])
    found: dict[str, set[str]] = {}
    for _ in range(600):
        for pairs in questions(rng, scene).values():
            for question, reply in pairs:
                found.setdefault(question, set()).add(reply)
    assert all(len(replies) == 1 for replies in found.values()), "the same question has one answer"
    answers = {question: reply for question, (reply,) in found.items()}
    assert answers["how many shapes are there?"] == said
    for kinds, of in ((SHAPES, "{}s"), (COLOURS, "{} shapes")):
        numbers = [NUMBERS.index(answers[f"how many {of.format(kind)} are there?"]) for kind in kinds]
        assert sum(numbers) == count
    for shape in SHAPES:
        number = answers[f"how many {shape}s are there?"]
        assert answers[f"is there a {shape}?"] == ("no" if number == "none" else "yes")
    for thing in scene.things:
        assert answers[f"what is {PLACE_PHRASE[thing.place]}?"] == noun(thing)
        assert answers[f"is there a {thing.colour} {thing.shape}?"] == "yes"
        assert answers[f"where is the {thing.shape} {PLACE_PHRASE[thing.place]}?"] == PLACE_PHRASE[thing.place]


def test_every_kind_of_question_comes_as_often():
    rng = np.random.default_rng(1)
    asked = [random_question(rng, PAIR)[0] for _ in range(2100)]
    found = Counter(next(kind for start, kind in STARTS.items() if question.startswith(start)) for question in asked)
    assert set(found) == set(KINDS)
    assert all(count / len(asked) == pytest.approx(1 / len(KINDS), abs=0.03) for count in found.values())


STARTS = {
    "what colour is the background": "the background",
    "what colour": "colour",
    "what size": "size",
    "what is": "what is where",
    "where": "where",
    "how many": "how many",
    "is there": "is there",
}


def test_a_plain_background_is_asked_about_too():
    found = questions(np.random.default_rng(2), Scene("grey"))
    assert set(found) == {"the background", "how many", "is there"}
    assert {reply for _, reply in found["how many"]} == {"none"}
    assert {reply for _, reply in found["is there"]} == {"no"}


def test_no_question_holds_its_answer():
    """What is asked of is not said: the size of "the large one" would be no question."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        scene = random_scene(rng, 3)
        found = questions(rng, scene)
        for question, reply in (*found.get("size", ()), *found.get("colour", ())):
            assert reply not in question.removesuffix("?").split()
    assert "size" in questions(rng, Scene("white", (RED,)))
