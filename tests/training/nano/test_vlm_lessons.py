"""What the VLM is taught in a step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from lightbagel_core.model.chat import Talk, chat_inputs
from lightbagel_core.training.nano import vlm_lessons as lessons
from lightbagel_core.training.nano.codes import CHANGED, IGNORE, SCENE, scene_code
from lightbagel_core.training.nano.shape import GRID, vit_picture
from lightbagel_core.world.scenes import Scene
from lightbagel_core.world.sentence_reader import scene_of_sentence
from lightbagel_core.world.sentences import SHOW_AND_TELL, caption
from lightbagel_core.world.stories import UNDO


def test_answers_alone_are_learned_from(tiny):
    tokens = tiny.und.tokenizer
    chat = lessons.chat(tiny.und, np.random.default_rng(0), 40)
    seen = 0
    for row, labels, text in zip(chat.ids, chat.labels, chat.texts, strict=True):
        answers = [a.strip() for a in tokens.decode(labels[labels != IGNORE]).split("<|im_end|>") if a]
        assert answers
        for answer, said in zip(answers, text.split("; "), strict=True):
            assert said.endswith(answer)
        assert torch.equal(row[labels != IGNORE], labels[labels != IGNORE])
        pictures = int((row == tokens.convert_tokens_to_ids("<|vision_start|>")).sum())
        assert (row == tokens.convert_tokens_to_ids("<|image_pad|>")).sum() == GRID**2 * pictures
        assert labels[-1] == tokens.eos_token_id  # the padding is on the left
        assert tokens.unk_token_id not in row
        seen += pictures
    assert chat.grid.tolist() == [[1, 2 * GRID, 2 * GRID]] * seen
    assert seen > 40, "some have two pictures"
    assert chat.wanted.shape == (40, len(SCENE) + len(CHANGED))


def test_a_conversation_of_lessons_is_one_of_the_chat(tiny):
    """Token for token what the VLM is asked in use, and the answer behind it."""
    rng, longest = np.random.default_rng(5), 0
    for _ in range(12):
        exchanges = lessons.questions_in_turn(rng)
        longest = max(longest, len(exchanges))
        ids, labels, points = lessons._row(tiny.und, exchanges)
        messages = []
        for exchange in exchanges:
            content = [*map(vit_picture, exchange.scenes), exchange.question]
            messages += [("user", content), ("assistant", [exchange.answer])]
        (_, last) = messages.pop()
        asked = chat_inputs(tiny.und, [Talk(messages)])["input_ids"][0].tolist()
        reply = tiny.und.tokenizer(last[0] + "<|im_end|>", add_special_tokens=False)["input_ids"]
        assert ids == [*asked, *reply]
        assert len(ids) == len(labels) == len(points)
    assert longest == 3


def test_conversations_describe_ask_and_tell_what_is_wanted():
    rng, kinds = np.random.default_rng(1), Counter()
    for _ in range(1500):
        exchanges, wanted = lessons.chat_sample(rng)
        (*_, last) = exchanges
        about: Scene | None = None
        for exchange in exchanges:
            about = exchange.scenes[-1] if exchange.scenes else about
        assert about is not None
        kind = "describe" if last.question in SHOW_AND_TELL else "ask" if set(wanted) == {IGNORE} else "do"
        kinds[kind] += 1
        kinds["later"] += len(exchanges) > 1
        kinds["another picture"] += any(exchange.scenes for exchange in exchanges[1:])
        kinds["two pictures"] += len(last.scenes) == 2
        if kind == "describe":
            assert last.answer == caption(about)
        if kind == "do":
            assert len(exchanges) == 1
            assert wanted[: len(SCENE)] == scene_code(scene_of_sentence(last.answer))
            assert 1 in wanted[len(SCENE) :]
        else:
            assert set(wanted) == {IGNORE}
    shares = {kind: count / 1500 for kind, count in kinds.items()}
    assert shares == pytest.approx(
        {"describe": 0.2, "ask": 0.35, "do": 0.45, "later": 0.19, "another picture": 0.055, "two pictures": 0.094},
        abs=0.04,
    )


def test_an_edit_shows_its_source_and_a_prompt_none(tiny):
    drawn = lessons.drawings(tiny.und, np.random.default_rng(0), 60)
    seen = sum(parts.count("vit") for parts in drawn.parts)
    assert len(drawn.pictures) == len(drawn.scenes) == len(drawn.cells) == seen
    assert len(drawn.targets) == len(drawn.wanted) == len(drawn.texts) == 60
    assert drawn.cells.shape[1] == GRID**2
    for parts, code, target in zip(drawn.parts, drawn.wanted, drawn.targets, strict=True):
        assert ("vit" in parts) == (code[0] != IGNORE).item()
        assert "vit" not in parts or torch.equal(code[: len(SCENE)], target)


def test_what_stands_before_a_target():
    """A prompt; one picture or two and words; and a picture, words, their picture, words. Markers stand before most."""
    rng, shapes, unmarked = np.random.default_rng(2), Counter(), Counter()
    for _ in range(800):
        asked = lessons.drawing_sample(rng)
        scenes = [part for part in asked.parts if isinstance(part, Scene)]
        shapes["".join("t" if isinstance(part, str) else "p" for part in asked.parts if part is not None)] += 1
        for before, part in zip((..., *asked.parts), asked.parts, strict=False):
            unmarked[before is not None] += isinstance(part, Scene)
            assert part is not None or before is not None
        assert (asked.source is None) == (not scenes)
        assert asked.source is None or any(asked.source is scene for scene in scenes)
        assert asked.source != asked.target
    assert set(shapes) == {"t", "pt", "ppt", "ptpt"}
    edits = 800 - shapes["t"]
    assert edits / 800 == pytest.approx(0.75, abs=0.05)
    assert shapes["ptpt"] / edits == pytest.approx(0.34, abs=0.05)
    assert shapes["ppt"] / edits == pytest.approx(0.1, abs=0.04)
    assert unmarked[True] / unmarked.total() == pytest.approx(0.15, abs=0.04)


def test_a_second_turn_is_about_the_picture_of_the_first():
    rng, undone = np.random.default_rng(3), 0
    for _ in range(600):
        asked = lessons.drawing_sample(rng)
        scenes = [part for part in asked.parts if isinstance(part, Scene)]
        words = [part for part in asked.parts if isinstance(part, str)]
        if len(words) == 2:
            assert asked.source is scenes[1]
            if words[1] in UNDO:
                assert asked.target == scenes[0]
                undone += 1
    assert undone > 10


def test_one_sequence_at_least_has_a_source(tiny):
    for seed in range(8):
        assert len(lessons.drawings(tiny.und, np.random.default_rng(seed), 1).pictures) >= 1
