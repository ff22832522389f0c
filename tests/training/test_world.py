"""The nano's world and the rules that read it: the scores are worth what these are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightbagel_core.evaluation.checker import read_scene, same_spot
from lightbagel_core.evaluation.nano import agrees, edited
from lightbagel_core.training.nano.world import (
    COLOURS,
    EDITS,
    PLACES,
    RADIUS,
    SHAPES,
    Scene,
    Thing,
    caption,
    random_edit,
    random_prompt,
    random_question,
    random_scene,
    render,
    vocabulary,
)

RED = Thing("circle", "red", "large", "left")
BLUE = Thing("square", "blue", "small", "right", 1, -2)
PAIR = Scene("white", (RED, BLUE))


def test_every_drawn_scene_is_read_back_to_the_pixel():
    rng = np.random.default_rng(0)
    for _ in range(150):
        scene = random_scene(rng)
        assert same_spot(scene, read_scene(render(scene)), tolerance=1), caption(scene)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", RADIUS)
@pytest.mark.parametrize("place", PLACES)
def test_single_things_are_read_in_noise(shape, size, place):
    scene = Scene("grey", (Thing(shape, "yellow", size, place),))
    noisy = render(scene) + np.random.default_rng(1).normal(0, 8, (128, 128, 3))
    assert same_spot(scene, read_scene(noisy.clip(0, 255).astype(np.uint8)))


def test_the_reader_refuses_what_is_no_clear_scene():
    assert read_scene(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)) is None
    assert read_scene(np.full((128, 128, 3), (90, 0, 90), np.uint8)) is None
    smear = render(PAIR)
    smear[60:70, 20:110] = (222, 40, 40)
    assert read_scene(smear) is None


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


def test_scoring_a_generated_picture():
    prompt = "a red circle left of a small blue square on a white background"
    assert agrees(prompt, PAIR, PAIR)
    assert agrees(prompt, PAIR, Scene("white", (replace(RED, size="small"), BLUE)))  # no size was asked of the circle
    assert not agrees(prompt, PAIR, Scene("white", (RED, replace(BLUE, size="large"))))
    assert not agrees(prompt, PAIR, Scene("grey", PAIR.things))
    assert not agrees(prompt, PAIR, Scene("white", (replace(RED, place="right"), replace(BLUE, place="left"))))
    assert not agrees(prompt, PAIR, Scene("white", (RED,)))
    assert not agrees(prompt, PAIR, None)
    free = "a red circle and a blue square"
    assert agrees(free, PAIR, Scene("white", (replace(RED, place="top"), replace(BLUE, place="bottom"))))
    assert not agrees(free, PAIR, Scene("white", (replace(RED, colour="green"), BLUE)))


def test_scoring_an_edit():
    target = replace(PAIR, things=(replace(RED, colour="green"), BLUE))
    assert edited("make the circle green", target, target)
    assert not edited("make the circle green", target, PAIR)
    moved = replace(target, things=(target.things[0], replace(BLUE, dx=-2)))
    assert not edited("make the circle green", target, moved)  # three pixels: the square was to stay
    added = Scene("white", (RED, replace(BLUE, dx=-2, dy=2)))
    assert edited("add a small blue square on the right", PAIR, added)  # where exactly a new thing stands is free
    pushed = Scene("white", (replace(RED, dx=3), BLUE))
    assert not edited("add a small blue square on the right", PAIR, pushed)
    assert edited("add a blue square on the right", PAIR, Scene("white", (RED, replace(BLUE, size="large"))))
    assert not edited("add a small blue square on the right", PAIR, Scene("white", (RED, replace(BLUE, size="large"))))


def test_no_shape_has_the_background_colour():
    rng = np.random.default_rng(3)
    for _ in range(200):
        scene = random_scene(rng)
        assert all(t.colour in COLOURS and t.colour != scene.background for t in scene.things)
