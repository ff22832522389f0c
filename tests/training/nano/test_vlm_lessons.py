"""What the VLM is taught in a step."""

from __future__ import annotations

import numpy as np
import torch

from lightbagel_core.training.nano import vlm_lessons as lessons
from lightbagel_core.training.nano.codes import IGNORE


def test_answers_alone_are_learned_from(tiny):
    tokens = tiny.und.tokenizer
    chat = lessons.chat(tiny.und, np.random.default_rng(0), 6)
    for row, labels, text in zip(chat.ids, chat.labels, chat.texts, strict=True):
        answer = tokens.decode(labels[labels != IGNORE])
        assert text.endswith(answer.removesuffix("<|im_end|>").strip())
        assert torch.equal(row[labels != IGNORE], labels[labels != IGNORE])
        assert (row == tokens.convert_tokens_to_ids("<|image_pad|>")).sum() == 16
        assert labels[-1] == tokens.eos_token_id  # the padding is on the left
    assert chat.grid.tolist() == [[1, 8, 8]] * 6
    assert chat.meant.shape == (6, 4)


def test_an_edit_shows_its_source_and_a_prompt_none(tiny):
    drawn = lessons.drawings(tiny.und, np.random.default_rng(0), 40)
    kinds = {tuple(part for part in parts if isinstance(part, str)) for parts in drawn.parts}
    assert kinds == {(), ("vit",), ("clean", "vit")}
    seen = sum("vit" in parts for parts in drawn.parts)
    assert len(drawn.pictures) == len(drawn.scenes) == len(drawn.cells) == seen
    assert len(drawn.targets) == len(drawn.meant) == len(drawn.texts) == 40
    for parts, code in zip(drawn.parts, drawn.meant, strict=True):
        assert ("vit" in parts) == (code[0] != IGNORE).item()


def test_one_sequence_at_least_has_a_source(tiny):
    for seed in range(8):
        assert len(lessons.drawings(tiny.und, np.random.default_rng(seed), 1).pictures) == 1
