"""A context that begins as an earlier one did: the VLM reads its new tokens only, and its states are the same."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from tiny import make_tiny

from lightbagel_core.model.forward import pack_samples, und_states
from lightbagel_core.model.reading import Reading


@pytest.fixture
def model():
    return make_tiny()


@pytest.fixture
def read_tokens(model):
    """How many tokens the VLM's first layer was called with, call by call."""
    sizes: list[int] = []
    layer = model.und.vlm.model.language_model.layers[0]
    layer.register_forward_hook(lambda module, args, output: sizes.append(args[0].shape[1]))
    return sizes


def contents(model, count: int) -> list:
    """Turns of a picture (9 clean and 9 ViT tokens) and a text."""
    made = []
    for number in range(count):
        picture = Image.new("RGB", (96, 96), (40 * number, 0, 90))
        made += [
            model.clean(picture),
            model.vit(picture),
            model.text(["a red circle", "make the circle blue"][number % 2]),
        ]
    return made


def test_a_conversation_reads_its_new_tokens_only(model, read_tokens):
    turns, reading = contents(model, 3), Reading()
    for count in (1, 2, 3):
        sample = turns[: 3 * count]
        tokens = pack_samples([sample, [*sample[:-1], model.text("")]], 2, (2, 3))
        expected = und_states(model.und, tokens)
        read_tokens.clear()
        found = reading.read(model.und, tokens)
        text = len(sample[-1])
        # each turn: two markers, 9 ViT tokens and their two markers; the empty text; two targets' markers
        assert read_tokens == [2 + 11 + text + 2 + 2 * 2]
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    read_tokens.clear()
    again = reading.read(model.und, tokens)
    assert read_tokens == []
    torch.testing.assert_close(again[-1], found[-1], rtol=0, atol=0)


def test_a_context_that_begins_otherwise_shares_nothing(model, read_tokens):
    """Fewer turns of history: what follows stands at other positions."""
    turns, reading = contents(model, 2), Reading()
    reading.read(model.und, pack_samples([turns], 2, (2, 3)))
    later = pack_samples([turns[3:]], 2, (2, 3))
    read_tokens.clear()
    found = reading.read(model.und, later)
    assert read_tokens == [sum(later.sizes)]
    torch.testing.assert_close(found[0], und_states(model.und, later)[0], rtol=1e-5, atol=1e-5)
    assert set(reading.segments) == set(later.keys)  # what the last context did not need is gone


def test_what_is_kept_is_no_part_of_something_larger(model):
    reading = Reading()
    reading.read(model.und, pack_samples([contents(model, 1)], 2, (2, 3)))
    for segment in reading.segments.values():
        for x in (*segment.states, *segment.keys, *segment.values):
            assert x.untyped_storage().nbytes() == x.nbytes


def test_the_velocity_is_the_same(model):
    turns, reading = contents(model, 2), Reading()
    noise = model.noise(1, 96, 64, 0)
    model.encode([turns[:3]], 96, 64, reading)
    ours, theirs = (model.velocity(noise, 0.5, model.encode([turns], 96, 64, each)) for each in (reading, None))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_what_goes_on_in_words_has_no_target_before_it(model, read_tokens):
    """And nothing of the context is read anew when it is drawn after."""
    turns, reading = contents(model, 1), Reading()
    tokens = pack_samples([turns], 2, (2, 3))
    cache = reading.cache(model.und, tokens)
    before = sum(tokens.sizes) - 2
    assert read_tokens == [before]
    assert cache.get_seq_length() == before
    reading.read(model.und, tokens)
    assert read_tokens == [before, 2]
