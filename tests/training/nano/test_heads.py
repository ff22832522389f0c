"""The VLM's throw-away heads."""

from __future__ import annotations

import torch

from lightbagel_core.training.nano.codes import IGNORE
from lightbagel_core.training.nano.heads import Reader, classes_loss


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
