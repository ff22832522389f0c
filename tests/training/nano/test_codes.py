"""What the VLM's throw-away heads are asked for."""

from __future__ import annotations

from dataclasses import replace

from lightbagel_core.training.nano.codes import CELL, IGNORE, MEANT, SCENE, cell_codes, meant, scene_code
from lightbagel_core.world.scenes import Scene, Thing

RED, BLUE = Thing("circle", "red", "large", "left"), Thing("square", "blue", "small", "right")
PAIR, EMPTY = Scene("white", (RED, BLUE)), [IGNORE] * 3


def test_what_an_instruction_means():
    """Place, shape, colour, size; places are left, right, top, …"""
    assert meant(PAIR, Scene("white", (replace(RED, colour="blue"), BLUE))) == [0, 1, 2, 1]
    assert meant(PAIR, Scene("white", (RED, replace(BLUE, shape="star")))) == [1, 3, 2, 0]
    assert meant(PAIR, Scene("white", (RED,))) == [1, 0, *EMPTY[:2]]
    assert meant(Scene("white", (RED,)), PAIR) == [1, 2, 2, 0]
    assert meant(PAIR, Scene("grey", (RED, BLUE))) == [5, *EMPTY]
    assert meant(None, PAIR) == [IGNORE] * 4
    assert len(MEANT) == 4


def test_what_a_token_shows():
    cells = cell_codes(PAIR)
    circle, square, nothing = [1, 0, 1, 0], [2, 2, 0, 1], [0, *EMPTY]
    row = [nothing] * 4
    assert [cells[i] for i in (4, 8, 7, 11)] == [circle, circle, square, square]
    assert cells[:4] == row == cells[12:]
    assert cell_codes(Scene("grey")) == row * 4
    assert len(CELL) == 4


def test_what_a_scene_holds():
    code = scene_code(PAIR)
    assert code[:6] == [1, 0, 1, 2, 2, 0]
    assert code[6:15] == [0, IGNORE, IGNORE] * 3
    assert len(code) == len(SCENE)
