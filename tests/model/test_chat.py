"""Several questions in one batch: each is answered as it is alone, by one run of the stock model."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import noise_picture, one_thing

from benchmarks.run import StockProcessor
from lightbagel_core.model import chat
from lightbagel_core.model.chat import Looked, Talk

SIZES = [(112, 112), (112, 56), (56, 112), (84, 112)]


def picture(index: int) -> Image.Image:
    width, height = SIZES[index % len(SIZES)]
    return Image.fromarray(np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8))


TURNS = [
    ([picture(0)], "what colour is the circle?"),
    ([picture(1)], "describe the image"),
    ([picture(2), picture(3)], "is there a large red star at the left?"),
    ([], "how many shapes are there?"),
]
SCENES = [
    ([one_thing("circle", "red")], "what colour is the circle?"),
    ([one_thing("star", "blue")], "describe the image"),
    ([one_thing("square", "green", (96, 128))], "how many shapes are there?"),
]


@pytest.fixture(params=["tiny", "nano"])
def und(request):
    return request.getfixturevalue(request.param).und


@pytest.mark.parametrize("turns", [TURNS, TURNS[:3], TURNS[3:] * 2, SCENES], ids=["all", "seen", "text", "scenes"])
def test_a_batch_answers_as_each_turn_alone(und, turns):
    """Words, not bits: no token was a near thing (the two best logits lie 0.0001 apart or more)."""
    options = {"max_new_tokens": 16, "do_sample": False}
    alone = [chat.answer_ids(und, [turn], **options)[0] for turn in turns]
    assert chat.answer_ids(und, turns, **options) == alone
    words = [und.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in alone]
    assert chat.answers(und, turns, 16) == words


def test_inputs_are_those_of_the_stock_processor(und):
    expected = StockProcessor.of(und).inputs(TURNS)
    inputs = chat.chat_inputs(und, TURNS)
    assert set(expected) - {"mm_token_type_ids"} == set(inputs) - {"mm_token_type_ids"}
    for name, value in expected.items():
        ours = inputs[name]
        if name == "input_ids":
            ours = ours.masked_fill(inputs["attention_mask"] == 0, und.tokenizer.pad_token_id)
        torch.testing.assert_close(ours, value, rtol=1e-6, atol=1e-6, check_dtype=False)
    assert expected["attention_mask"].min() == 0  # or nothing was padded


@pytest.mark.parametrize("ends", [2, [2, 0], [0, 2]], ids=["nano's", "Qwen's", "Qwen's turned"])
def test_a_short_answer_ends_where_it_ends(nano, monkeypatch, ends):
    """Qwen's padding is one of its end markers, the nano's is not."""
    monkeypatch.setattr(nano.und.vlm.generation_config, "eos_token_id", ends)
    answers = chat.answer_ids(nano.und, SCENES, max_new_tokens=16)
    assert [nano.und.tokenizer.decode(ids, skip_special_tokens=False) for ids in answers] == [
        "red <|im_end|>",
        "a large blue star in the centre on a white background <|im_end|>",
        "one <|im_end|>",
    ]


def test_without_an_end_marker_nothing_is_cut(nano, monkeypatch):
    monkeypatch.setattr(nano.und.vlm.generation_config, "eos_token_id", None)
    assert [len(ids) for ids in chat.answer_ids(nano.und, SCENES, max_new_tokens=4)] == [4, 4, 4]


def test_a_tokenizer_that_pads_otherwise_or_not_at_all_will_do(nano, monkeypatch):
    expected = chat.answers(nano.und, SCENES)
    tokenizer = copy.deepcopy(nano.und.tokenizer)
    tokenizer.padding_side, tokenizer.pad_token = "right", None
    monkeypatch.setattr(nano.und, "tokenizer", tokenizer)
    assert chat.answers(nano.und, SCENES) == expected


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_is_one_run_of_the_stock_model(tiny, count):
    calls = {"visual": 0, "language_model": 0}
    hooks = []
    for name in calls:

        def called(*_: object, name: str = name) -> None:
            calls[name] += 1

        hooks.append(getattr(tiny.und.vlm.model, name).register_forward_hook(called))
    chat.answers(tiny.und, TURNS[:count], 7, min_new_tokens=7)
    for hook in hooks:
        hook.remove()
    assert calls == {"visual": 1, "language_model": 7}  # all of the input at once, then a token at a time


@pytest.mark.parametrize("count", [0, 1, 2])
def test_describe_is_the_stock_model_token_for_token(tiny, count):
    pictures = [noise_picture(4, 112, 84), noise_picture(5, 112, 84)][:count]
    question = "what colour is the circle?"
    picture_tokens = f"<|vision_start|>{'<|image_pad|>' * 12}<|vision_end|>" * count
    prompt = f"<|im_start|>user {picture_tokens}{question}<|im_end|><|im_start|>assistant "
    ids = tiny.und.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    batch = tiny.und.processor(images=pictures, return_tensors="pt") if pictures else {}
    extra = {}
    if "mm_token_type_ids" in chat.chat_inputs(tiny.und, [(pictures, question)]):
        extra["mm_token_type_ids"] = (ids == tiny.und.token_id("<|image_pad|>")).int()
    expected = tiny.und.vlm.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, **batch, **extra
    )[0, ids.shape[1] :]
    words = tiny.und.tokenizer.decode(expected, skip_special_tokens=True).strip()
    assert chat.answers(tiny.und, [(pictures, question)], max_new_tokens=12) == [words]
    assert words or count == 2  # with random weights an answer may be nothing but markers


def test_a_conversation_keeps_its_order(tiny):
    """Pictures stand between the words where they stood, each with as many tokens as its size makes."""
    wide, small = noise_picture(6, 112, 84), noise_picture(7, 56, 56)
    talk = Talk(
        [
            ("user", ["what is on the left?", wide, "and there?", small]),
            ("assistant", ["a star"]),
            ("user", [small, "what colour is the circle?"]),
        ]
    )
    inputs = chat.chat_inputs(tiny.und, [talk, ([wide], "what is there?")])
    seen = {name: f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>" for name, count in (("w", 12), ("s", 4))}
    prompt = (
        f"<|im_start|>user what is on the left?{seen['w']}and there?{seen['s']}<|im_end|>"
        "<|im_start|>assistant a star<|im_end|>"
        f"<|im_start|>user {seen['s']}what colour is the circle?<|im_end|><|im_start|>assistant "
    )
    ids = tiny.und.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert inputs["input_ids"][0].tolist() == ids
    alone = [tiny.und.processor(images=[picture], return_tensors="pt") for picture in (wide, small, small, wide)]
    torch.testing.assert_close(inputs["pixel_values"], torch.cat([each["pixel_values"] for each in alone]))


def test_a_conversation_of_one_question_is_a_turn(nano):
    talks = [Talk([("user", [*images, question])]) for images, question in SCENES]
    assert chat.answers(nano.und, talks) == chat.answers(nano.und, SCENES)


def test_a_role_that_the_nano_has_no_word_for_is_refused(nano):
    with pytest.raises(ValueError, match="does not know: system"):
        chat.answers(nano.und, [Talk([("system", ["the circle"]), ("user", ["what colour is the circle?"])])])


def told(und, talk, **options):
    """The words of an answer as they were told one by one, and the answer."""
    heard: list[str] = []
    return heard, chat.answer(und, talk, on_text=heard.append, **options)


def test_words_are_told_while_they_are_made(und):
    heard, answer = told(und, SCENES[1], max_new_tokens=24)
    assert answer.text == chat.answers(und, SCENES[1:2], 24)[0] == heard[-1]
    assert len(heard) >= len(answer.text.split()) - 1  # a word at a time
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(heard))


def test_a_listener_may_end_an_answer(und):
    heard: list[str] = []

    def listen(text: str) -> bool:
        heard.append(text)
        return len(heard) < 3

    stopped = chat.answer(und, SCENES[1], 24, on_text=listen).text
    assert len(heard) <= 5  # the last words come out at the end
    whole = chat.answers(und, SCENES[1:2], 24)[0]
    assert whole.startswith(stopped)
    assert stopped != whole


def test_an_answer_at_its_bound_is_cut(nano):
    assert chat.answer(nano.und, SCENES[1], max_new_tokens=2).cut
    whole = len(chat.answer_ids(nano.und, SCENES[1:2], max_new_tokens=64, do_sample=False)[0])
    assert not chat.answer(nano.und, SCENES[1], max_new_tokens=whole).cut  # its end is its last token


def test_a_batch_has_no_listener(nano):
    with pytest.raises(ValueError, match="one conversation at a time"):
        chat.answers(nano.und, SCENES, on_text=print)


def test_a_conversation_that_goes_on_does_not_look_again(nano, monkeypatch):
    """The ViT's patches are counted, of two pictures of different sizes and then of a third."""
    patches: list[int] = []
    visual = nano.und.vlm.model.visual
    forward = visual.forward
    monkeypatch.setattr(visual, "forward", lambda x, *args, **kw: patches.append(len(x)) or forward(x, *args, **kw))
    looked, first, question = Looked(), [SCENES[0][0][0], SCENES[1][0][0]], "how many shapes are there?"
    third = SCENES[2][0][0]
    talks = [Talk([("user", [first[0], question])]), Talk([("user", [*first, question])])]
    talks += [Talk([*talks[1].messages, ("assistant", ["two"]), ("user", [third, question])]), talks[0]]
    for talk in talks:
        assert chat.answer(nano.und, talk, looked=looked) == chat.answer(nano.und, talk)
    sizes = [int(nano.und.pixel_values([p])[1].prod()) for p in (*first, third)]
    # with `looked` each picture once; without, all of a talk's pictures
    alone = [sizes[0], sum(sizes[:2]), sum(sizes), sizes[0]]
    assert patches == [sizes[0], alone[0], sizes[1], alone[1], sizes[2], alone[2], alone[3]]
    assert "get_image_features" not in vars(nano.und.vlm.model)


def test_a_tokenizer_without_a_chat_template_is_named(tiny, monkeypatch):
    monkeypatch.setattr(tiny.und.tokenizer, "chat_template", None)
    with pytest.raises(ValueError, match="no chat template"):
        chat.answers(tiny.und, TURNS[:1])


def test_an_answers_own_markers_do_not_stop_the_conversation(nano):
    """Qwen's tokenizers have words such as <tool_call>, which an answer may hold and a question may not."""
    assert chat.without_markers(nano.und, "a red <|vision_start|> circle <|im_end|>") == "a red  circle"


def test_what_the_vit_made_is_kept_apart_from_the_rest(nano):
    """On the CPU, each picture's own, so that one may go."""
    looked, pictures = Looked(), [SCENES[0][0][0], SCENES[1][0][0]]
    chat.answer(nano.und, Talk([("user", [*pictures, "how many shapes are there?"])]), looked=looked)
    for _, tokens in looked.features.values():
        assert tokens.device.type == "cpu"
        assert tokens.untyped_storage().nbytes() == tokens.nbytes
