"""Samples from plans: as the pipeline would encode them one by one, each picture once, shared within an example."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import make_tiny

from lightbagel_core.model.forward import CleanImage, EncodedSegment, pack_samples, und_states
from lightbagel_core.model.understanding import VitImage
from lightbagel_core.training.data import encode
from lightbagel_core.training.data.encode import Encoder
from lightbagel_core.training.data.example import Example, Turn
from lightbagel_core.training.data.samples import Plan, VitPicture, plan
from lightbagel_core.training.stages import Dropout


@pytest.fixture(scope="module")
def model():
    return make_tiny()


def picture(seed: int, width: int = 128, height: int = 128) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def chain(*sizes: tuple[int, int], second: str = "remove the circle") -> Example:
    source, first, last = (picture(i, *size) for i, size in enumerate(sizes))
    return Example((source,), (Turn("make the circle red", first), Turn(second, last)))


def plans(example: Example, seed: int = 0, share: float = 0.0):
    return plan(example, Dropout(share, share, share, 0.5), np.random.default_rng(seed))


EXAMPLES = (
    Example((), (Turn("a red circle", picture(7, 96, 64)),)),
    Example((picture(8), picture(9, 64, 128)), (Turn("add a star", picture(10)),)),
    chain((128, 128), (128, 96), (64, 64)),
    chain((128, 128), (128, 96), (64, 64), second="make the circle red"),  # the same words elsewhere are not shared
)


def expected_states(model, contents, target):
    rows, cols = (side // model.gen.patch for side in target.shape[-2:])
    tokens = pack_samples([contents[:-1]], model.gen.patch, (rows, cols))
    return torch.stack(und_states(model.und, tokens)).bfloat16()


@torch.no_grad()
def test_samples_are_what_the_pipeline_encodes_one_by_one(model):
    planned = [plans(example, 3, 0.2) for example in EXAMPLES] + [plans(example) for example in EXAMPLES]
    encoder = Encoder(model.und, model.vae, model.config)
    for some, live, read in zip(planned, encoder.live(planned), encoder.read(planned), strict=True):
        for one, sample, encoded in zip(some, live, read, strict=True):
            torch.testing.assert_close(sample.target, model.clean(one.target).latents, atol=1e-5, rtol=1e-5)
            contents = []
            for kind, what in one.parts:
                text = kind == "text"
                contents.append(model.text(what) if text else {"clean": model.clean, "vit": model.vit}[kind](what))
            for found, single in zip(sample.contents, [*contents, None], strict=True):
                if isinstance(single, CleanImage):
                    torch.testing.assert_close(found.latents, single.latents, atol=1e-5, rtol=1e-5)
                elif isinstance(single, VitImage):
                    assert isinstance(found, VitPicture)
                    (seen,) = model.und.vit_images([found.image])
                    assert torch.equal(seen.features, single.features)
                    assert (found.rows, found.cols) == (single.rows, single.cols)
                else:
                    assert found == (None if single is None else tuple(single))
            states = torch.cat([segment.states for segment in encoded.contents], dim=1)
            assert states.dtype == torch.bfloat16
            expected = expected_states(model, [*contents, None], sample.target)
            torch.testing.assert_close(states.float(), expected.float(), atol=2e-4, rtol=0.01)
            assert torch.equal(encoded.target, sample.target)
            assert encoded.segments == sample.segments
            for segment, content in zip(encoded.contents, sample.contents, strict=True):
                assert isinstance(segment, EncodedSegment)
                assert (segment.latents is None) == (not isinstance(content, CleanImage))


@torch.no_grad()
def test_samples_without_any_text_have_the_states_of_their_own_size(model):
    """Their contents are all alike, the place of their end marker is not."""
    planned = [[Plan((), picture(1, *size), False)] for size in ((128, 64), (64, 64))]
    for (sample,) in Encoder(model.und, model.vae, model.config).read(planned):
        expected = expected_states(model, [None], sample.target)
        torch.testing.assert_close(sample.contents[0].states.float(), expected.float(), atol=2e-4, rtol=0.01)


def test_turns_of_a_chain_share_their_beginning(model):
    encoder = Encoder(model.und, model.vae, model.config)
    planned = plans(EXAMPLES[2])
    for first, second in (encoder.live([planned])[0], encoder.read([planned])[0]):
        assert len(first.contents) == 4
        assert len(second.contents) == 7
        assert all(a is b or a == b for a, b in zip(first.contents[:3], second.contents[:3], strict=True))
        assert second.contents[3].latents is first.target  # what was drawn is a source now


def test_each_picture_is_encoded_once_and_many_in_one_call(model, monkeypatch):
    calls: list[tuple[int, ...]] = []
    true = encode.encode
    monkeypatch.setattr(encode, "encode", lambda vae, pixels: calls.append(tuple(pixels.shape)) or true(vae, pixels))
    seen: list[int] = []
    vit_images = model.und.vit_images
    monkeypatch.setattr(model.und, "vit_images", lambda images: seen.append(len(images)) or vit_images(images))
    planned = [plans(chain((128, 128), (128, 128), (64, 64))) for _ in range(3)]
    Encoder(model.und, model.vae, model.config).read([*planned, planned[0]])
    assert sorted(calls) == [(3, 3, 64, 64), (6, 3, 128, 128)]
    assert seen == [6]
    calls.clear()
    monkeypatch.setattr(encode, "VAE_PIXELS", 2 * 128 * 128)
    Encoder(model.und, model.vae, model.config).live(planned)
    assert sorted(shape[0] for shape in calls) == [2, 2, 2, 3]


def test_a_word_that_the_model_does_not_know_is_said(model):
    with pytest.raises(ValueError, match="does not know: elephant"):
        Encoder(model.und, model.vae, model.config).read([plans(Example((), (Turn("a elephant", picture(1)),)))])


def test_the_vlm_reads_no_more_at_once_than_so_many_tokens(model, monkeypatch):
    read = []
    true = encode.und_states
    monkeypatch.setattr(
        encode, "und_states", lambda und, tokens: read.append(tokens.positions.shape[1]) or true(und, tokens)
    )
    monkeypatch.setattr(encode, "READ_TOKENS", 60)
    planned = [plans(example) for example in EXAMPLES]
    encoder = Encoder(model.und, model.vae, model.config)
    found = encoder.read(planned)
    assert len(read) == 3  # the chains have more each
    monkeypatch.undo()
    for some, others in zip(found, encoder.read(planned), strict=True):
        for one, other in zip(some, others, strict=True):
            for part, same in zip(one.contents, other.contents, strict=True):
                torch.testing.assert_close(part.states.float(), same.states.float(), atol=2e-4, rtol=0.01)


def test_the_vlm_need_not_be_there_for_what_it_will_read_itself(model):
    needed = []
    encoder = Encoder(model.und, model.vae, model.config, need=needed.append)
    encoder.live([plans(example) for example in EXAMPLES])
    assert needed == ["vae"]
    encoder.read([plans(EXAMPLES[0])])
    assert needed == ["vae", "vae", "understanding"]
