"""What the VLM's throw-away heads are asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightbagel_core.training.nano.codes import (
    CELL,
    CHANGED,
    IGNORE,
    SCENE,
    cell_codes,
    change_code,
    scene_code,
)
from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.edits import random_edit
from lightbagel_core.world.scenes import PLACES, Scene, Thing

RED, BLUE = Thing("circle", "red", "large", "left"), Thing("square", "blue", "small", "right")
PAIR, EMPTY = Scene("white", (RED, BLUE)), [IGNORE] * 3


@pytest.mark.parametrize(
    ("target", "changed"),
    [
        (Scene("white", (replace(RED, colour="blue"), BLUE)), [1, 0, 0, 0, 0, 0]),
        (Scene("white", (RED, replace(BLUE, shape="star"))), [0, 1, 0, 0, 0, 0]),
        (Scene("white", (RED,)), [0, 1, 0, 0, 0, 0]),
        (Scene("white", (RED, BLUE, replace(BLUE, place="centre"))), [0, 0, 0, 0, 1, 0]),
        (Scene("white", (RED, replace(BLUE, place="top"))), [0, 1, 1, 0, 0, 0]),
        (Scene("grey", (RED, BLUE)), [0, 0, 0, 0, 0, 1]),
        (PAIR, [0] * 6),
    ],
)
def test_what_an_instruction_wants(target, changed):
    """The target, and whether it changes: left, right, top, bottom, centre, the background."""
    assert change_code(PAIR, target) == [*scene_code(target), *changed]
    assert len(changed) == len(CHANGED)


def test_without_a_source_nothing_is_asked():
    code = change_code(None, PAIR)
    assert set(code) == {IGNORE}
    assert len(code) == len(change_code(PAIR, PAIR)) == len(SCENE) + len(CHANGED)


def test_what_changes_is_what_an_edits_changes_name():
    rng = np.random.default_rng(0)
    for _ in range(200):
        edit = random_edit(rng)
        named = {change.place for change in edit.changes}
        flags = change_code(edit.source, edit.target)[len(SCENE) :]
        assert flags == [int(place in named) for place in (*PLACES, "")], edit.words


def test_every_code_is_a_class_of_its_head():
    rng = np.random.default_rng(1)
    for _ in range(200):
        scene = random_scene(rng)
        sizes = SCENE + CHANGED
        assert all(code in (IGNORE, *range(size)) for code, size in zip(change_code(PAIR, scene), sizes, strict=True))
        for cell in cell_codes(scene):
            assert all(code in (IGNORE, *range(size)) for code, size in zip(cell, CELL, strict=True))


def test_what_a_token_shows():
    """Of three rows of three, each thing is in the token of its place, and nowhere else."""
    cells = cell_codes(PAIR)
    circle, square, nothing = [1, 0, 1, 0], [2, 2, 0, 1], [0, *EMPTY]
    assert cells == [*[nothing] * 3, circle, nothing, square, *[nothing] * 3]
    assert cell_codes(Scene("grey")) == [nothing] * 9
    five = Scene("white", tuple(replace(BLUE, place=place) for place in PLACES))
    shown = [cell[3] for cell in cell_codes(five)]
    assert shown == [IGNORE, 2, IGNORE, 0, 4, 1, IGNORE, 3, IGNORE]


def test_two_scenes_have_one_code_only_where_they_are_alike():
    rng, seen = np.random.default_rng(2), {}
    for _ in range(400):
        scene = random_scene(rng)
        assert seen.setdefault(tuple(scene_code(scene)), scene.attributes) == scene.attributes


def test_what_a_scene_holds():
    code = scene_code(PAIR)
    assert code[:6] == [1, 0, 1, 2, 2, 0]
    assert code[6:15] == [0, IGNORE, IGNORE] * 3
    assert len(code) == len(SCENE)
