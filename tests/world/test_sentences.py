"""The nano's world: what is said of a scene is true of it, and an edit changes what it names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import BLUE, PAIR, RED

from lightbagel_core.world.scenes import Scene, random_scene
from lightbagel_core.world.sentences import EDITS, caption, random_edit, random_prompt, random_question, vocabulary


def test_captions():
    assert caption(PAIR) == "a large red circle left of a small blue square on a white background"
    assert caption(Scene("black")) == "a plain black background"
    corner = Scene("grey", (replace(RED, place="centre"), replace(BLUE, place="top")))
    assert caption(corner) == "a large red circle in the centre and a small blue square at the top on a grey background"


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
