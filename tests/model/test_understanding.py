"""Several questions in one batch: each is answered as it is alone, by one run of the stock model."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for benchmarks/, which are not installed

from benchmarks.run import StockProcessor
from lightbagel_core.training.nano.world import Scene, Thing, render

SIZES = [(112, 112), (112, 56), (56, 112), (84, 112)]


def picture(index: int) -> Image.Image:
    width, height = SIZES[index % len(SIZES)]
    return Image.fromarray(np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8))


def scene(shape: str, colour: str, size: tuple[int, int] = (128, 128)) -> Image.Image:
    return Image.fromarray(render(Scene("white", (Thing(shape, colour, "large", "centre"),)))).resize(size)


TURNS = [
    ([picture(0)], "what colour is the circle?"),
    ([picture(1)], "describe the image"),
    ([picture(2), picture(3)], "is there a large red star at the left?"),
    ([], "how many shapes are there?"),
]
SCENES = [
    ([scene("circle", "red", (128, 96))], "what colour is the circle?"),
    ([scene("star", "blue")], "describe the image"),
    ([scene("square", "green", (96, 128))], "how many shapes are there?"),
]


@pytest.fixture(params=["tiny", "nano"])
def und(request):
    return request.getfixturevalue(request.param).und


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("turns", [TURNS, TURNS[:3], TURNS[3:] * 2, SCENES], ids=["all", "seen", "text", "scenes"])
def test_a_batch_answers_as_each_turn_alone(und, turns, cache):
    options = {"max_new_tokens": 16, "do_sample": False}
    alone = [und.answer_ids([turn], **options)[0] for turn in turns]
    assert und.answer_ids(turns, cache_implementation=None if cache == "dynamic" else cache, **options) == alone
    assert und.answers(turns, 16, cache) == [und.answers([turn], 16)[0] for turn in turns]


def test_inputs_are_those_of_the_stock_processor(und):
    expected = StockProcessor.of(und).inputs(TURNS)
    inputs = und.chat_inputs(TURNS)
    assert set(expected) - {"mm_token_type_ids"} == set(inputs) - {"mm_token_type_ids"}
    for name, value in expected.items():
        ours = inputs[name]
        if name == "input_ids":
            ours = ours.masked_fill(inputs["attention_mask"] == 0, und.tokenizer.pad_token_id)
        torch.testing.assert_close(ours, value, rtol=0, atol=0, check_dtype=False)
    assert expected["attention_mask"].min() == 0  # or nothing was padded


@pytest.mark.parametrize("ends", [2, [2, 0], [0, 2]], ids=["nano's", "Qwen's", "Qwen's turned"])
def test_a_short_answer_ends_where_it_ends(nano, monkeypatch, ends):
    """Qwen's padding is one of its end markers, the nano's is not."""
    monkeypatch.setattr(nano.und.vlm.generation_config, "eos_token_id", ends)
    answers = nano.und.answer_ids(SCENES, max_new_tokens=16)
    assert [nano.und.tokenizer.decode(ids, skip_special_tokens=False) for ids in answers] == [
        "red <|im_end|>",
        "a large blue star in the centre on a white background <|im_end|>",
        "one <|im_end|>",
    ]


def test_without_an_end_marker_nothing_is_cut(nano, monkeypatch):
    monkeypatch.setattr(nano.und.vlm.generation_config, "eos_token_id", None)
    assert [len(ids) for ids in nano.und.answer_ids(SCENES, max_new_tokens=4)] == [4, 4, 4]


def test_a_tokenizer_that_pads_otherwise_or_not_at_all_will_do(nano, monkeypatch):
    expected = nano.und.answers(SCENES)
    tokenizer = copy.deepcopy(nano.und.tokenizer)
    tokenizer.padding_side, tokenizer.pad_token = "right", None
    monkeypatch.setattr(nano.und, "tokenizer", tokenizer)
    assert nano.und.answers(SCENES) == expected


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_is_one_run_of_the_stock_model(tiny, count, cache):
    calls = {"visual": 0, "language_model": 0}
    hooks = []
    for name in calls:

        def called(*_: object, name: str = name) -> None:
            calls[name] += 1

        hooks.append(getattr(tiny.und.vlm.model, name).register_forward_hook(called))
    tiny.und.answers(TURNS[:count], 7, cache, min_new_tokens=7)
    for hook in hooks:
        hook.remove()
    assert calls == {"visual": 1, "language_model": 7}  # all of the input at once, then a token at a time


def test_describe_each(nano):
    pictures = [turn[0][0] for turn in SCENES]
    answers = nano.describe_each(pictures, "what is in the centre?")
    assert answers == [nano.describe(each, "what is in the centre?") for each in pictures]
    assert len(set(answers)) == 3
    assert nano.describe_each(pictures[:1]) == [nano.describe(pictures[0], cache="static")]


def test_what_describing_refuses(nano):
    with pytest.raises(ValueError, match="needs at least one image"):
        nano.describe_each([])
    with pytest.raises(ValueError, match="needs at least one image"):
        nano.describe([])
    with pytest.raises(ValueError, match="needs a question"):
        nano.describe_each([picture(0)], " ")
    with pytest.raises(ValueError, match="does not know: president"):
        nano.und.answers([*SCENES, ([], "the president")])
    with pytest.raises(ValueError, match="the cache is dynamic or static, not 'quantized'"):
        nano.describe(picture(0), cache="quantized")
