"""The trainer: resumes to the same weights, and one command leads from nothing to a checkpoint that opens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import velocity
from lightbagel_core.training import loss
from lightbagel_core.training.dropout import SegmentDropout
from lightbagel_core.training.nano import dit_recipe as dit
from lightbagel_core.training.nano import vae_recipe as vae
from lightbagel_core.training.nano import vlm_recipe as vlm


def test_segments_are_dropped_independently_at_the_stated_rates():
    rng = np.random.default_rng(0)
    kept = [dit.keep(rng, edit=True) for _ in range(20000)]
    clean, vit = (np.array([k[i] for k in kept]) for i in (0, 1))
    text = np.array([k[2] == "full" for k in kept])
    rates = dit.DROPOUT
    for column, rate in ((clean, rates.clean), (vit, rates.vit), (text, rates.text)):
        assert 1 - column.mean() == pytest.approx(rate, abs=0.01)
    assert np.mean([k[2] == "empty" for k in kept]) == pytest.approx(rates.text / 2, abs=0.01)
    assert (~clean & ~vit & ~text).mean() == pytest.approx(rates.clean * rates.vit * rates.text, abs=0.002)
    assert not any(k[0] or k[1] for k in (dit.keep(rng, edit=False) for _ in range(50)))


def test_a_chunk_is_reproduced_by_seed_and_number(monkeypatch):
    monkeypatch.setattr(dit, "CHUNK", 24)
    monkeypatch.setattr(dit, "DROPOUT", SegmentDropout(text=0.6, clean=0.4, vit=0.4))
    und, autoencoder = frozen()
    samples, again = (dit.make_chunk(und, autoencoder, seed=1, number=0) for _ in range(2))
    for a, b in zip(samples, again, strict=True):
        assert torch.equal(a.target, b.target)
        for one, other in zip(a.segments, b.segments, strict=True):
            assert torch.equal(one.states, other.states)
    assert 0 < sum(s.edit for s in samples) < 24
    for sample in samples:
        states = torch.cat([segment.states for segment in sample.segments], dim=1)
        assert states.shape == (und.depth, int(sample.layout.und.sum()), 256)


def frozen():
    """The VLM and the VAE as they begin."""
    torch.manual_seed(0)
    und = vlm.build().eval().requires_grad_(False)
    return und, vae.use_single_frames(vae.AutoencoderKLWan(**vae.CONFIG)).eval().requires_grad_(False)


def test_the_loss_reaches_all_trained_parts_and_no_frozen_ones(monkeypatch):
    monkeypatch.setattr(dit, "CHUNK", 12)
    und, autoencoder = frozen()
    samples = dit.make_chunk(und, autoencoder, seed=1, number=0)
    gen, fusion = dit.build(und)
    for layer in fusion.layers:
        nn.init.normal_(layer.gen_out.weight, std=0.1)
    value, figures = dit.loss(gen, fusion, samples, torch.Generator().manual_seed(5))
    edits = sum(sample.edit for sample in samples)
    assert value.item() == pytest.approx((figures["edit"] * edits + figures["draw"] * (12 - edits)) / 12, abs=1e-3)
    value.backward()
    untouched = {n for n, p in [*gen.named_parameters(), *fusion.named_parameters()] if p.grad is None}
    assert untouched == set()
    assert fusion.context.grad.abs().sum() > 0
    assert all(p.grad is None for p in [*und.parameters(), *autoencoder.parameters()])


def test_a_sample_is_heard_alone_as_in_a_batch(monkeypatch):
    """Among them some without words, without pictures, without anything."""
    monkeypatch.setattr(dit, "CHUNK", 24)
    monkeypatch.setattr(dit, "DROPOUT", SegmentDropout(text=0.6, clean=0.4, vit=0.4))
    und, autoencoder = frozen()
    samples = dit.make_chunk(und, autoencoder, seed=1, number=0)
    assert sum(int(s.layout.segment[-1]) == 0 for s in samples) > 1
    gen, fusion = dit.build(und)
    gen.requires_grad_(False)
    fusion.requires_grad_(False)
    for layer in fusion.layers:
        nn.init.normal_(layer.gen_out.weight, std=0.3)
    contexts = []
    monkeypatch.setattr(loss, "velocity", lambda g, f, x, t, context, _: contexts.append(context) or x)
    generator = torch.Generator().manual_seed(5)
    for part in (samples, *([s] for s in samples)):
        dit.loss(gen, fusion, part, generator)
    x, t = torch.randn(24, 48, 8, 8, generator=generator), torch.rand(24, generator=generator)
    together = velocity(gen, fusion, x, t, contexts[0], SDPA)
    alone = [velocity(gen, fusion, x[i : i + 1], t[i : i + 1], contexts[i + 1], SDPA) for i in range(24)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
