"""The flow matching loss against its formula written out."""

from __future__ import annotations

import torch
from tiny import make_tiny

from lightbagel_core.model.forward import EncodedSegment
from lightbagel_core.model.sequence import ImageSegment, lay_out
from lightbagel_core.training import loss


def test_an_error_is_that_of_the_velocity_at_a_random_time(monkeypatch):
    """x_t = (1 - t) x + t n, the velocity n - x; t a sigmoid of normal draws, shifted by 4."""
    model, asked, count = make_tiny(), [], 5
    layout = lay_out([ImageSegment("noised", 2, 3)])
    markers = [[EncodedSegment(torch.randn(model.und.depth, 2, 64))] for _ in range(count)]
    x = torch.randn(count, 48, 4, 6, generator=torch.Generator().manual_seed(0))
    answer = torch.randn(count, 48, 4, 6, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(loss, "velocity", lambda gen, fusion, x, t, *_: asked.append((x, t)) or answer)
    errors = loss.flow_matching_errors(
        model.gen, model.fusion, [layout] * count, markers, x, torch.Generator().manual_seed(5)
    )
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(x.shape, generator=generator)
    even = torch.randn(count, generator=generator).sigmoid()
    t = 4 * even / (1 + 3 * even)
    ((noised, times),) = asked
    torch.testing.assert_close(times, t)
    torch.testing.assert_close(noised, (1 - t)[:, None, None, None] * x + t[:, None, None, None] * noise)
    expected = torch.stack([((answer[i] - (noise[i] - x[i])) ** 2).mean() for i in range(count)])
    torch.testing.assert_close(errors, expected)
