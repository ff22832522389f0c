"""Who can write freely: asked of the nano, of a VLM with an open vocabulary, and of one that only has an unk token."""

from __future__ import annotations

import pytest
from scripted import scripted_understanding

from lightbagel_core.language.vocabulary import check_writes, closed


def test_the_nano_says_what_it_cannot(nano):
    assert closed(nano.und)
    with pytest.raises(
        ValueError, match=r"the nano cannot plan a story: its VLM knows a hundred words.*Qwen2\.5-VL-7B"
    ):
        check_writes(nano.und, "plan a story")
    words = [word for word in nano.und.tokenizer.get_vocab() if word.isalpha()]
    assert 95 <= len(words) <= 105  # "a hundred"


def test_a_vocabulary_of_bytes_is_open():
    und = scripted_understanding("yes")
    assert not closed(und)
    check_writes(und, "plan a story")
    und.tokenizer.unk_token = "<|endoftext|>"  # as some files of Qwen2.5's tokenizer have it
    assert und.tokenizer.unk_token_id is not None
    assert not closed(und)
