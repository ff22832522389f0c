"""Compiled steps: the oracle's numbers, and nothing compiled twice."""

from __future__ import annotations

import oracle
import pytest
import torch
from PIL import Image
from tiny import make_tiny
from torch._dynamo.testing import CompileCounter

from lightbagel_core.pipeline import LightBagel

WIDTH, HEIGHT = 96, 64
PICTURE = Image.new("RGB", (96, 64), "red")
RUN = {"width": WIDTH, "height": HEIGHT, "steps": 2, "progress": False}


@pytest.fixture
def model():
    torch._dynamo.reset()
    yield make_tiny()
    torch._dynamo.reset()


def latents() -> torch.Tensor:
    return torch.randn(1, 48, HEIGHT // 16, WIDTH // 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "backend",
    ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)],  # the latter calls a C++ compiler
)
def test_compiled_steps_are_the_oracles(model, backend):
    model.compile(backend=backend)
    parts = [model.clean(PICTURE), model.vit(PICTURE), model.text("make the circle blue")]
    ours = model.velocity(latents(), 0.7, model.encode([parts], WIDTH, HEIGHT))
    truth = oracle.velocity(model, parts, latents(), 0.7)
    assert (ours - truth).abs().max() / truth.abs().max() < 1e-5


def test_each_region_is_compiled_once_whatever_prompts_seeds_and_steps(model):
    regions = CompileCounter()
    model.compile(backend=regions)
    model.generate("a red circle", **RUN)
    assert regions.frame_count == 2  # a block of the DiT, the projections of a fusion layer; each for all layers
    model.generate("a small green star on the left", "a blue square", seed=4, **{**RUN, "steps": 5})
    model.compile(backend=regions)
    model.generate("a red circle left of a blue square", seed=5, solver="euler", text_guidance=7.0, **RUN)
    assert regions.frame_count == 2


def test_an_edit_compiles_for_its_two_batches_once(model):
    """Its source is one picture, its steps are of two branches; neither depends on the words."""
    regions = CompileCounter()
    model.compile(backend=regions)
    model.edit(PICTURE, "make the circle blue", **RUN)
    first = regions.frame_count
    assert first <= 4
    model.edit(PICTURE, "replace the small square on the left with a green star", "a circle", seed=1, **RUN)
    assert regions.frame_count == first


def test_what_cannot_be_is_refused(tmp_path):
    tiny = make_tiny()
    tiny.save_pretrained(tmp_path / "tiny")
    streamed = LightBagel.from_pretrained(tmp_path / "tiny", "cpu", offload="layers")
    with pytest.raises(ValueError, match="these are streamed"):
        streamed.compile()
