"""What the VLM's throw-away heads learn from."""

from __future__ import annotations

from dataclasses import replace

import torch

from lightbagel_core.training.nano import vlm_recipe as vlm
from lightbagel_core.world.scenes import Scene, Thing


def test_what_an_instruction_means_and_what_a_token_shows():
    """The VLM's throw-away heads learn from these: place, shape, colour, size; places are left, right, top, …"""
    red, blue = Thing("circle", "red", "large", "left"), Thing("square", "blue", "small", "right")
    scene, empty = Scene("white", (red, blue)), [vlm.IGNORE] * 3
    assert vlm.meant(scene, Scene("white", (replace(red, colour="blue"), blue))) == [0, 1, 2, 1]
    assert vlm.meant(scene, Scene("white", (red, replace(blue, shape="star")))) == [1, 3, 2, 0]
    assert vlm.meant(scene, Scene("white", (red,))) == [1, 0, *empty[:2]]
    assert vlm.meant(Scene("white", (red,)), scene) == [1, 2, 2, 0]
    assert vlm.meant(scene, Scene("grey", (red, blue))) == [5, *empty]
    assert vlm.meant(None, scene) == [vlm.IGNORE] * 4
    cells = vlm.cell_codes(scene)
    circle, square, nothing = [1, 0, 1, 0], [2, 2, 0, 1], [0, *empty]
    row = [nothing] * 4
    assert [cells[i] for i in (4, 8, 7, 11)] == [circle, circle, square, square]
    assert cells[:4] == row == cells[12:]
    assert vlm.cell_codes(Scene("grey")) == row * 4


def test_a_word_is_a_token_and_one_it_does_not_know_is_known_to_be_unknown():
    tokens = vlm.tokenizer()
    ids = tokens("A large RED circle .", add_special_tokens=False)["input_ids"]
    assert tokens.convert_ids_to_tokens(ids) == ["a", "large", "red", "circle", "."]
    assert tokens("a purple circle")["input_ids"][1] == tokens.unk_token_id
    assert tokens.convert_tokens_to_ids("<|image_pad|>") == vlm.config(tokens)["image_token_id"]


def test_what_is_ignored_costs_nothing():
    logits = torch.tensor([[2.0, 0.0, 0.0, 1.0], [0.0, 2.0, 3.0, 0.0]])  # a class of two, another of two
    codes = torch.tensor([[0, 1], [1, vlm.IGNORE]])
    each = -torch.log_softmax(torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0]]), -1)
    expected = ((each[0, 0] + each[1, 1]) / 2 + each[2, 1]) / 2
    torch.testing.assert_close(vlm.classes_loss(logits, codes, [2, 2]), expected)
    assert vlm.classes_loss(logits, torch.full((2, 2), vlm.IGNORE), [2, 2]) == 0
