"""Moments in 8 bits: which tensors have them, and that their pieces are the moments themselves."""

import builtins

import pytest
import torch

from lightbagel_core.training import eight_bit


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((3072, 3072), 256),
        ((3072, 48, 1, 2, 2), 64),  # 192 values in a row
        ((3072, 32), 32),  # the wide half of a LoRA of rank 32
        ((3072, 16), 0),
        ((3072, 100), 0),
        ((3072,), 0),
        ((32, 64), 0),
    ],
)
def test_blocks_never_leave_their_row(shape, size):
    assert eight_bit.block(torch.Size(shape)) == size


def test_its_absence_is_said_in_a_sentence(monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name.startswith("torchao"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match="pip install torchao"):
        eight_bit.adamw([torch.zeros(2)], lr=0.1)


def test_pieces_are_the_moments_own_memory():
    pytest.importorskip("torchao")
    param = torch.nn.Parameter(torch.randn(128, 64))
    optimizer = eight_bit.adamw([param], lr=1e-3)
    assert eight_bit.is_used(optimizer)
    param.grad = torch.randn(128, 64)
    with torch.compiler.set_stance("force_eager"):
        optimizer.step()
    moment = optimizer.state[param]["exp_avg"]
    assert torch.allclose(moment.dequantize(), 0.1 * param.grad, atol=0.02)
    found = eight_bit.pieces(param, moment)
    assert {end: tuple(piece.shape) for end, piece in found.items()} == {"_codes": (128, 64), "_scale": (128, 1)}
    before = moment.dequantize()
    found["_scale"] *= 2
    assert torch.equal(moment.dequantize(), 2 * before)
