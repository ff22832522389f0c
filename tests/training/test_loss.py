"""The flow matching loss against its formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_tiny
from torch import Tensor

from lightbagel_core.model.attention import SDPA
from lightbagel_core.model.forward import EncodedSegment
from lightbagel_core.model.sequence import ImageSegment
from lightbagel_core.training import loss
from lightbagel_core.training.data.encode import Encoder
from lightbagel_core.training.data.example import Example, Turn
from lightbagel_core.training.data.samples import Plan, Sample, plan
from lightbagel_core.training.loss import Drawing, noised
from lightbagel_core.training.stages import Dropout

SIZES = [(4, 6), (4, 6), (6, 4), (4, 4), (4, 6)]


def random(seed: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(48, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def samples() -> list[Sample]:
    """Of nothing but targets, of several sizes; the VLM has read their markers."""
    found = []
    for i, (height, width) in enumerate(SIZES):
        segments = (ImageSegment("noised", height // 2, width // 2),)
        found.append(Sample(segments, [EncodedSegment(torch.randn(2, 2, 64))], random(i, (height, width)), False))
    return found


def test_an_error_is_that_of_the_velocity_summed_over_tokens(samples, monkeypatch):
    """x_t = (1 - t) x + t n, the velocity n - x."""
    model, asked = make_tiny(), []
    answers = [random(10 + i, size) for i, size in enumerate(SIZES)]
    monkeypatch.setattr(loss, "velocities", lambda gen, fusion, *given: asked.append(given) or answers)
    noise, t = [random(20 + i, size) for i, size in enumerate(SIZES)], torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    batch = loss.Pass(samples, t, noise)
    errors = loss.Drawing(model.gen, model.fusion, SDPA)(batch)
    ((_, _, noised, times, _),) = asked
    torch.testing.assert_close(times, t)
    for i, sample in enumerate(samples):
        torch.testing.assert_close(noised[i], (1 - t[i]) * sample.target + t[i] * noise[i])
        wrong = (answers[i] - (noise[i] - sample.target)) ** 2
        by_token = [
            wrong[:, r : r + 2, c : c + 2].mean() for r in range(0, SIZES[i][0], 2) for c in range(0, SIZES[i][1], 2)
        ]
        torch.testing.assert_close(errors[i], torch.stack(by_token).sum())
    assert batch.tokens(2) == [6, 6, 6, 4, 6]


def test_times_are_a_sigmoid_of_normal_draws_shifted(samples):
    """Of 4000 samples: the logit of what the shift makes of t is normal; noise is of mean 0 and deviation 1."""
    batch = loss.noised(samples[:1] * 4000, [(1, i) for i in range(4000)], 4.0)
    even = batch.t / (4 - 3 * batch.t)
    assert even.logit().mean().item() == pytest.approx(0, abs=0.05)
    assert even.logit().std().item() == pytest.approx(1, abs=0.05)
    noise = torch.stack(list(batch.noise))
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert torch.corrcoef(torch.stack([even.logit(), noise[:, 0, 0, 0]]))[0, 1].abs() < 0.05


def test_a_samples_time_and_noise_are_its_keys_alone(samples):
    keys = [(7, 3, i) for i in range(5)]
    together = loss.noised(samples, keys, 4.0)
    alone = [loss.noised([sample], [key], 4.0) for sample, key in zip(samples, keys, strict=True)]
    assert torch.equal(together.t, torch.cat([one.t for one in alone]))
    for a, b in zip(together.noise, alone, strict=True):
        assert torch.equal(a, b.noise[0])
    assert len(set(together.t.tolist())) == 5
    assert not torch.equal(together.noise[0], together.noise[1])


def test_a_vlm_beside_them_is_read_without_gradients_unless_it_is_trained():
    model = make_tiny()
    model.fusion.requires_grad_(True)
    sample = Sample((ImageSegment("noised", 2, 2),), [None], random(0, (4, 4)), False)
    batch = loss.noised([sample], [(1,)], 4.0)
    for trained in (False, True):
        model.und.requires_grad_(trained)
        loss.Drawing(model.gen, model.fusion, SDPA, model.und)(batch).sum().backward()
        weight = model.und.vlm.model.language_model.layers[0].mlp.up_proj.weight
        assert (weight.grad is not None) == trained


def test_a_live_vlm_sees_pictures_itself_and_its_whole_vit_learns():
    model = make_tiny()
    for module in (model.und, model.gen, model.fusion):
        module.requires_grad_(True)
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8))
    example = Example((picture,), (Turn("make the circle red", picture),))
    plans = plan(example, Dropout(0, 0, 0), np.random.default_rng(0))
    encoder, drawing = Encoder(model.und, model.vae, model.config), Drawing(model.gen, model.fusion, SDPA, model.und)
    (live,), (read,) = encoder.live([plans]), encoder.read([plans])
    one, other = (noised(samples, [(1,)], 4.0) for samples in (live, read))
    error = drawing(one)
    with torch.no_grad():  # states in bfloat16
        torch.testing.assert_close(error, Drawing(model.gen, model.fusion, SDPA)(other), rtol=0.01, atol=0.01)
    error.sum().backward()
    lacking = [n for n, p in drawing.und.named_parameters() if p.requires_grad and p.grad is None]
    assert lacking == []
    assert drawing.und.vlm.model.visual.patch_embed.proj.weight.grad.abs().max() > 0
    assert not drawing.und.vlm.lm_head.weight.requires_grad  # no drawing reads it

    drawing.zero_grad()  # another process's pass, without pictures, calls the ViT as well
    blind = [Plan((("text", "a star"),), picture, False)]
    (samples,) = encoder.live([blind])
    alone = drawing(noised(samples, [(2,)], 4.0))
    alone.sum().backward()
    assert [n for n, p in drawing.und.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not drawing.und.vlm.model.visual.patch_embed.proj.weight.grad.any()
