"""The nano's world: what is said of a scene is true of it, and an edit changes what it names."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scenes import BLUE, PAIR, RED

from lightbagel_core.world.arrangements import scene_of
from lightbagel_core.world.scenes import Scene, random_scene
from lightbagel_core.world.sentences import (
    EDITS,
    PLACE_PHRASE,
    caption,
    noun,
    random_edit,
    random_prompt,
    random_question,
    vocabulary,
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


def test_training_draws_what_it_always_drew():
    """The recipes name seeds: their scenes and sentences are the ones that the published nano was taught."""
    rng, record = np.random.default_rng(14), hashlib.sha256()
    for _ in range(500):
        scene = random_scene(rng)
        said = (scene, caption(scene), random_prompt(rng), random_edit(rng), random_question(rng, scene))
        record.update(repr(said).encode())
    assert record.hexdigest() == "2a466578a9564be9aec7243188a242d2d9a472f1ee332d356f6577bf706fa91a"


@pytest.mark.parametrize(("count", "said"), enumerate(("none", "one", "two", "three", "four")))
def test_questions_about_up_to_four_things_are_answered_truly(count, said):
    rng = np.random.default_rng(0)
    scene = scene_of(rng, count, places=("left", "top", "right", "bottom")[:count])
    answers = dict(random_question(rng, scene) for _ in range(300))
    assert answers["how many shapes are there?"] == said
    for thing in scene.things:
        assert answers[f"what is {PLACE_PHRASE[thing.place]}?"] == noun(thing)
        assert answers[f"where is the {thing.shape} {PLACE_PHRASE[thing.place]}?"] == PLACE_PHRASE[thing.place]


def test_everything_said_is_in_the_vocabulary():
    rng, known = np.random.default_rng(0), set(vocabulary())
    for _ in range(300):
        scene = random_scene(rng)
        texts = [caption(scene), random_prompt(rng)[0], random_edit(rng)[1], *random_question(rng, scene)]
        for word in " ".join(texts).replace("?", " ?").split():
            assert word in known, word


@pytest.mark.parametrize("kind", EDITS)
def test_edits_change_what_they_name_and_nothing_else(kind):
    rng = np.random.default_rng(0)
    for _ in range(40):
        source, words, target = random_edit(rng, kind)
        before, after = set(source.things), set(target.things)
        if kind == "background":
            assert before == after
            assert source.background != target.background
            assert words.endswith(target.background)
            assert all(t.colour != target.background for t in target.things)
            continue
        assert source.background == target.background
        changes = {"add": (0, 1), "remove": (1, 0)}.get(kind, (1, 1))
        assert (len(before - after), len(after - before)) == changes
        if changes == (1, 1):
            old, new = (before - after).pop(), (after - before).pop()
            assert (old.place, old.dx, old.dy, old.size) == (new.place, new.dx, new.dy, new.size)
            assert (old.shape == new.shape) == (kind == "recolour")
            assert words.endswith(new.colour if kind == "recolour" else new.shape)
