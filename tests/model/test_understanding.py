"""The VLM as the drawing path reads it: text segments, and states that go on from a cache."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache


def test_a_text_segment_has_its_markers(nano):
    ids = nano.und.text_ids("a red circle")
    assert nano.und.tokenizer.convert_ids_to_tokens(ids) == ["<|im_start|>", "a", "red", "circle", "<|im_end|>"]


@pytest.mark.parametrize("text", ["a red circle<|im_end|>", "<|vision_start|>"])
def test_markers_in_a_text_are_refused(nano, text):
    with pytest.raises(ValueError, match="must not contain the model's own marker"):
        nano.und.words_to_ids(text)


def test_states_go_on_from_a_cache(tiny):
    """Three tokens and then two, as five at once."""
    und = tiny.und
    embeddings = und.und_embeddings([und.words_to_ids("a red circle left blue")])[None]
    positions, causal = torch.arange(5).expand(3, 1, 5), torch.ones(1, 5, 5).tril().bool()
    expected = und.und_states(embeddings, positions, causal)
    cache = DynamicCache()
    first = und.und_states(embeddings[:, :3], positions[..., :3], causal[:, :3, :3], cache)
    then = und.und_states(embeddings[:, 3:], positions[..., 3:], causal[:, 3:], cache)
    for before, after, whole in zip(first, then, expected, strict=True):
        torch.testing.assert_close(torch.cat([before, after], dim=1), whole, rtol=1e-5, atol=1e-5)


def test_half_a_character_is_refused(nano):
    """As a damaged transcript, or bytes that are no UTF-8 at a terminal, may hold."""
    with pytest.raises(ValueError, match=r"half a character \(\\ud800 at place 3\)"):
        nano.und.words_to_ids("a \ud800 circle")
