"""The VLM's throw-away heads."""

from __future__ import annotations

import torch
from scenes import PAIR

from lightbagel_core.training.nano.codes import CELL, CHANGED, IGNORE, SCENE, cell_codes, change_code, scene_code
from lightbagel_core.training.nano.heads import Heads, Reader, classes_loss
from lightbagel_core.training.nano.shape import GRID


def test_what_is_ignored_costs_nothing():
    logits = torch.tensor([[2.0, 0.0, 0.0, 1.0], [0.0, 2.0, 3.0, 0.0]])  # a class of two, another of two
    codes = torch.tensor([[0, 1], [1, IGNORE]])
    each = -torch.log_softmax(torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0]]), -1)
    expected = ((each[0, 0] + each[1, 1]) / 2 + each[2, 1]) / 2
    torch.testing.assert_close(classes_loss(logits, codes, [2, 2]), expected)
    assert classes_loss(logits, torch.full((2, 2), IGNORE), [2, 2]) == 0


def test_a_reader_reads_every_layer_but_the_first():
    reader = Reader(hidden=8, depth=3, sizes=[2, 3])
    states = [torch.randn(4, 8, requires_grad=True) for _ in range(3)]
    reader(states, torch.tensor([[0, 1]] * 4)).backward()
    assert [state.grad is not None for state in states] == [False, True, True]


def test_the_heads_ask_for_the_codes_that_there_are():
    heads, states = Heads(hidden=8, depth=2), [torch.randn(1, 8) for _ in range(2)]
    scene, change, cells = (
        torch.tensor([code]) for code in (scene_code(PAIR), change_code(PAIR, PAIR), cell_codes(PAIR))
    )
    assert heads.marker.sizes == SCENE
    assert heads.wanted.sizes == SCENE + CHANGED
    losses = [heads.marker(states, scene), heads.wanted(states, change)]
    losses.append(heads.vit_loss(torch.randn(1, GRID * GRID, 8), scene, cells))
    assert all(loss > 0 for loss in losses)


def test_the_vit_is_read_whole_and_token_by_token():
    heads, features = Heads(hidden=8, depth=2), torch.randn(2, GRID * GRID, 8)
    scenes, cells = torch.full((2, len(SCENE)), IGNORE), torch.full((2, GRID * GRID, len(CELL)), IGNORE)
    assert heads.vit_loss(features, scenes, cells) == 0
    cells[1, 4, 0] = 1
    logits = heads.cell(features[1, 4])[: CELL[0]]
    torch.testing.assert_close(heads.vit_loss(features, scenes, cells), -torch.log_softmax(logits, -1)[1])
    heads.vit_loss(features, scenes, cells).backward()
    assert heads.vit.weight.grad is None or not heads.vit.weight.grad.any()
