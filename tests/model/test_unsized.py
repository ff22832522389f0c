"""States computed before a target's size is known equal those of each size."""

from __future__ import annotations

import pytest
import torch
from scenes import noise_picture

from lightbagel_core.model.forward import CleanImage, known_states, pack_samples, segment_of, und_states
from lightbagel_core.model.packing import pack
from lightbagel_core.model.sequence import SIDES, ImageSegment, lay_out
from lightbagel_core.model.unsized import at_size, filled, newly_read, und_states_for_any_size


@pytest.mark.parametrize("target", [(2, 3), (1, 1), (5, 2), (SIDES, 1)])
def test_states_for_any_size_are_those_of_each_size(tiny, target):
    sample = [tiny.clean(noise_picture(1)), tiny.vit(noise_picture(1)), tiny.text("make the circle blue")]
    segments = [segment_of(content, 2) for content in sample]
    latents = [content.latents if isinstance(content, CleanImage) else None for content in sample]
    states = torch.stack([state[0] for state in und_states_for_any_size(tiny.und, sample, 2)], dim=1)
    encoded = at_size(states, segments, latents, target)
    assert [e.latents is None for e in encoded] == [not isinstance(content, CleanImage) for content in [*sample, None]]
    tokens = pack([lay_out([*segments, ImageSegment("noised", *target)])], [encoded])
    expected = und_states(tiny.und, pack_samples([sample], 2, target))
    known = known_states(tokens, torch.device("cpu"))
    for layer, theirs in enumerate(expected):
        torch.testing.assert_close(known(layer), theirs, rtol=1e-5, atol=1e-5)


def test_what_was_read_before_is_gone_on_from(tiny):
    """Turn by turn as all at once, from keys and values alone."""
    turns = [
        [tiny.text("a red circle")],
        [tiny.clean(noise_picture(1)), tiny.vit(noise_picture(1)), tiny.text("make the circle blue")],
        [tiny.vit(noise_picture(2)), tiny.text("a blue circle")],
    ]
    read, before, sample = [], [], []
    for turn in turns:
        sample += turn
        cache = filled(read, torch.device("cpu"))
        own = und_states_for_any_size(tiny.und, turn, 2, before, cache)
        size = own[0].shape[1] - 2 * SIDES
        first = sum(segment.und_tokens for segment in before)
        read.append(newly_read(cache, first, size))
        assert read[-1].shape[:2] == (tiny.und.depth, 2)
        assert read[-1].shape[3] == size == sum(segment_of(content, 2).und_tokens for content in turn)
        assert read[-1].untyped_storage().nbytes() == read[-1].nbytes
        before += [segment_of(content, 2) for content in turn]
        whole = und_states_for_any_size(tiny.und, sample, 2)
        for ours, theirs in zip(own, whole, strict=True):
            torch.testing.assert_close(ours[:, : 2 * SIDES], theirs[:, : 2 * SIDES], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(ours[:, 2 * SIDES :], theirs[:, -size:], rtol=1e-5, atol=1e-5)


def test_larger_targets_are_refused(tiny):
    with pytest.raises(ValueError, match="at most 64 tokens on its longer side, not 65; make it smaller"):
        at_size(torch.zeros(2 * SIDES, 2, 64), [], [], (65, 1))
