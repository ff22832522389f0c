"""Gradients of every trained tensor against autograd through the oracle: one dense sequence, one mask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import drawings
import oracle
import pytest
import torch
from tiny import make_tiny
from torch import Tensor

from lightbagel_core.model.attention import SDPA, for_training
from lightbagel_core.model.forward import CleanImage, EncodedSegment, segment_of, und_states
from lightbagel_core.model.packing import pack
from lightbagel_core.model.sequence import ImageSegment
from lightbagel_core.model.understanding import VitImage
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.loss import Drawing, Pass
from lightbagel_core.training.parallel import prepare_units
from lightbagel_core.training.stages import Stage

NEAR = 1e-4  # of a tensor's largest entry; float32's rounding gives up to 1e-5, a time of 0.701 for 0.7 over 1e-3
Parts = list  # what a sample holds before its target, as `LightBagel.encode` takes it; texts as tuples


def trained():
    """The tiny model with every weight trained, always the same one.

    Its learned context is large: where attention is all but even, gradients are differences of what is all but equal,
    and rounding is all that is left of them.
    """
    made = make_tiny()
    made.fusion.context.normal_()
    for module in (made.und, made.gen, made.fusion):
        module.requires_grad_(True)
    return made


@pytest.fixture(scope="module")
def model():
    return trained()


def random(seed: int, *size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def clean(seed: int, height: int = 4, width: int = 4) -> CleanImage:
    return CleanImage(random(seed, 48, height, width))


def vit(seed: int, rows: int = 2, cols: int = 2) -> VitImage:
    return VitImage(random(seed, rows * cols, 64), rows, cols)


def text(model, words: str) -> tuple[int, ...]:
    return tuple(model.text(words))


def sample(parts: Parts, target: Tensor) -> Sample:
    rows, cols = (side // 2 for side in target.shape[-2:])
    segments = (*(segment_of(part, 2) for part in parts), ImageSegment("noised", rows, cols))
    return Sample(segments, [*parts, None], target, any(not isinstance(part, tuple) for part in parts))


def drawn(samples: Sequence[Sample]) -> Pass:
    """The samples at times and with noise of their own."""
    t = torch.tensor([0.3, 0.7, 0.9, 0.5][: len(samples)])
    return Pass(samples, t, [random(100 + i, *s.target.shape) for i, s in enumerate(samples)])


def gradients(model) -> dict[str, Tensor]:
    """By name, of all that has one; they are taken away."""
    found = {}
    for component, module in (("und", model.und.vlm), ("gen", model.gen), ("fusion", model.fusion)):
        for name, weight in module.named_parameters():
            if weight.grad is not None:
                found[f"{component}.{name}"] = weight.grad
                weight.grad = None
    return found


def ours(model, batch: Pass, root: Drawing | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    errors = (root or Drawing(model.gen, model.fusion, SDPA, model.und))(batch)
    errors.sum().backward()
    found = gradients(model)
    for name in [name for name in found if name.startswith("und.model.visual.")]:
        assert not found.pop(name).any()  # pictures come as features here: the ViT saw an empty one, for nothing
    return errors.detach(), found


def error(velocity: Tensor, target: Tensor, noise: Tensor) -> Tensor:
    """A sum over tokens: over channels and the 2 x 2 latents of a token a mean."""
    return (velocity[0] - (noise - target)).square().sum() / 48 / 4


def truth(model, batch: Pass) -> tuple[Tensor, dict[str, Tensor]]:
    """Every sample for itself through the oracle."""
    errors = []
    for s, t, noise in zip(batch.samples, batch.t.tolist(), batch.noise, strict=True):
        x = (1 - t) * s.target + t * noise
        errors.append(error(oracle.velocity(model, list(s.contents[:-1]), x[None], t), s.target, noise))
    torch.stack(errors).sum().backward()
    return torch.stack(errors).detach(), gradients(model)


def assert_near(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    assert found[1].keys() == expected[1].keys()
    far = {name: oracle.relative(found[1][name], expected[1][name]) for name in expected[1]}
    assert {name: by for name, by in far.items() if not by < NEAR} == {}


def edit(model, sources: int = 1) -> Sample:
    """Of pictures of several sizes."""
    parts: Parts = []
    for i, sides in enumerate([(4, 6), (6, 4), (4, 4)][:sources]):
        parts += [clean(10 + i, *sides), vit(20 + i, 2, i + 1)]
    return sample([*parts, text(model, "make the circle blue")], random(30, 48, 4, 6))


def chain(model) -> tuple[list[Sample], Parts]:
    """(The samples of two turns, the second of which begins with what the first held; all of it as one sequence.)"""
    first = [clean(1, 4, 6), vit(2), text(model, "make the circle blue")]
    target, last = random(3, 48, 4, 6), random(4, 48, 4, 4)
    then = [CleanImage(target), vit(5, 2, 3), text(model, "replace the square with a star")]
    samples = [sample(first, target), sample([*first, *then], last)]
    one, two = (
        oracle.Noised((1 - t) * s.target + t * noise, t)
        for s, t, noise in zip(samples, drawn(samples).t.tolist(), drawn(samples).noise, strict=True)
    )
    return samples, [*first, one, *then, two]


def everything(model) -> Pass:
    """Text to image, an edit of three sources, a chain, in one pass."""
    return drawn([sample([text(model, "a red circle")], random(6, 48, 6, 4)), edit(model, 3), *chain(model)[0]])


def test_text_to_image(model):
    batch = drawn([sample([text(model, words)], random(i, 48, 4, 6)) for i, words in enumerate(("a red circle", ""))])
    assert_near(ours(model, batch), truth(model, batch))


@pytest.mark.parametrize("sources", [1, 3])
def test_an_edit(model, sources):
    batch = drawn([edit(model, sources)])
    assert_near(ours(model, batch), truth(model, batch))


@pytest.mark.parametrize("stays", list(product([True, False], repeat=3)), ids=str)
def test_every_dropout_pattern_of_an_edit(model, stays):
    """Which of clean picture, ViT picture and text stay; beside a sample of which all of them do, and alone."""
    whole = edit(model)
    parts = [part for part, kept in zip(whole.contents[:-1], stays, strict=True) if kept]
    alone = drawn([sample(parts, whole.target)])
    assert_near(ours(model, alone), truth(model, alone))
    both = drawn([whole, sample(parts, random(31, 48, 4, 4))])
    assert_near(ours(model, both), truth(model, both))


def test_a_chain_is_its_samples_and_the_authors_one_sequence(model):
    """There the first turn's target stands twice at the same positions: noised, and clean for what follows."""
    samples, sequence = chain(model)
    batch = drawn(samples)
    found = ours(model, batch)
    assert_near(found, truth(model, batch))
    errors = torch.stack(
        [
            error(velocity, s.target, noise)
            for velocity, s, noise in zip(oracle.velocities(model, sequence), samples, batch.noise, strict=True)
        ]
    )
    errors.sum().backward()
    assert_near(found, (errors.detach(), gradients(model)))


@pytest.fixture(scope="module")
def expected(model):
    return truth(model, everything(model))


def test_everything_in_one_pass(model, expected):
    assert_near(ours(model, everything(model)), expected)


def test_the_cpus_own_attention_gives_the_same(model, expected):
    attention = for_training(torch.device("cpu"), torch.float32)
    assert_near(ours(model, everything(model), Drawing(model.gen, model.fusion, attention, model.und)), expected)


def test_states_that_the_vlm_gave_before_give_the_same_to_all_but_the_vlm(model, expected):
    batch = everything(model)
    samples = []
    for s in batch.samples:
        with torch.no_grad():
            states = torch.stack(und_states(model.und, pack([s.layout], [s.contents])))
        segments = [segment_of(part, 2).und_tokens for part in s.contents[:-1]]
        held = [part.latents if isinstance(part, CleanImage) else None for part in s.contents]
        read = states.split([*segments, 2], dim=1)
        contents = [EncodedSegment(*pair) for pair in zip(read, held, strict=True)]
        samples.append(Sample(s.segments, contents, s.target, s.edit))
    found = ours(model, Pass(samples, batch.t, batch.noise), Drawing(model.gen, model.fusion, SDPA))
    assert_near(found, (expected[0], {k: v for k, v in expected[1].items() if not k.startswith("und.")}))


@pytest.mark.parametrize("frozen", ["und", "gen", "fusion"])
def test_what_is_frozen_gets_none_and_the_others_the_same(expected, frozen):
    model = trained()
    getattr(model, frozen).requires_grad_(False)
    left = {name: gradient for name, gradient in expected[1].items() if not name.startswith(frozen)}
    assert_near(ours(model, everything(model)), (expected[0], left))


SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in product([True, False], ["aot_eager", "inductor"])]


@pytest.mark.parametrize(("checkpointed", "compiled"), [(True, None), *SLOW], ids=str)
def test_checkpointing_and_compiling_change_nothing(expected, monkeypatch, checkpointed, compiled):
    """As the engine does them."""
    model = trained()
    root = Drawing(model.gen, model.fusion, SDPA, model.und)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiled))
    prepare_units(drawings.units(root), Stage(checkpointing=checkpointed, compile=compiled is not None))
    assert_near(ours(model, everything(model), root), expected)
    torch._dynamo.reset()
