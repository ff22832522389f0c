"""Describing: the VLM alone answers, and nothing of the rest is opened or imported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from scenes import PICTURE, one_thing

from lightbagel_core.config import NANO
from lightbagel_core.describe import Describer
from lightbagel_core.files.formats import open_model
from lightbagel_core.model import chat
from lightbagel_core.model.chat import Answer, Talk, answer, answers


def test_describe_each(nano):
    pictures = [one_thing("circle", "red"), one_thing("star", "blue"), one_thing("square", "green")]
    answers = nano.describe_each(pictures, "what is in the centre?")
    assert answers == [nano.describe(each, "what is in the centre?") for each in pictures]
    assert len(set(answers)) == 3


def test_what_describing_refuses(nano):
    with pytest.raises(ValueError, match="needs at least one image"):
        nano.describe_each([])
    with pytest.raises(ValueError, match="needs at least one image"):
        nano.describe([])
    with pytest.raises(ValueError, match="needs a question"):
        nano.describe_each([PICTURE], " ")
    with pytest.raises(ValueError, match="does not know: president"):
        answers(nano.und, [([PICTURE], "what is on the left?"), ([], "the president")])


def test_the_vlm_alone_is_opened(nano):
    opened = open_model(NANO, need=["understanding"])
    describer = Describer.of(opened, torch.device("cpu"))
    assert set(opened.components) == {"understanding"}
    picture = one_thing("circle", "red")
    assert describer.describe(picture) == nano.describe(picture)


def test_an_answer_ends_at_its_length(nano):
    words = nano.describe(PICTURE)
    assert len(words.split()) > 3
    assert nano.describe(PICTURE, max_new_tokens=3) == " ".join(words.split()[:3])


QUESTIONS = ["describe the image", "what colour is the circle?", "how many shapes are there?"]


def test_several_questions_are_one_conversation(nano, monkeypatch):
    """Held to the stock model, asked for each answer anew; the ViT's runs and the patches it saw are counted.

    What stands before the last question is looked at, since the nano may say the same without it.
    """
    patches: list[int] = []
    visual = nano.und.vlm.model.visual
    forward = visual.forward
    pictures, heard = [one_thing("circle", "red"), one_thing("star", "blue")], []
    messages: list = [("user", [*pictures, QUESTIONS[0]])]
    expected: list[Answer] = []
    for question in [*QUESTIONS[1:], None]:
        expected.append(answer(nano.und, Talk(messages)))
        messages += [("assistant", [expected[-1].text]), ("user", [question])]
    monkeypatch.setattr(visual, "forward", lambda x, *args, **kw: patches.append(len(x)) or forward(x, *args, **kw))
    talks: list[Talk] = []
    answer_ids = chat.answer_ids
    monkeypatch.setattr(
        chat, "answer_ids", lambda und, asked, *a, **kw: talks.extend(asked) or answer_ids(und, asked, *a, **kw)
    )
    found = nano.describe_in_turn(pictures, QUESTIONS, on_text=lambda *told: heard.append(told))
    assert found == expected
    assert patches == [sum(int(nano.und.pixel_values([each])[1].prod()) for each in pictures)]
    assert [number for number, _ in heard] == sorted(number for number, _ in heard)
    assert [dict(heard)[number] for number in range(3)] == [each.text for each in found]
    assert len(heard) > 6
    words = [(role, [part for part in parts if isinstance(part, str)]) for role, parts in talks[-1].messages]
    first, second = (answer.text for answer in found[:2])
    assert words == [
        ("user", [QUESTIONS[0]]), ("assistant", [first]), ("user", [QUESTIONS[1]]), ("assistant", [second]),
        ("user", [QUESTIONS[2]]),
    ]  # fmt: skip


def test_several_questions_about_each_of_several_pictures_are_one_batch(nano):
    """Two questions: at a third the nano, which was taught one, is no longer sure, and a batch rounds otherwise."""
    pictures = [one_thing("circle", "red"), one_thing("star", "blue"), one_thing("square", "green")]
    describer = Describer(nano.und, lambda: None)
    each = describer.each_in_turn([[picture] for picture in pictures], QUESTIONS[::2])
    assert each == [nano.describe_in_turn(picture, QUESTIONS[::2]) for picture in pictures]
    assert len({answers[0].text for answers in each}) == 3


def test_each_answer_says_whether_it_was_cut(nano):
    said = nano.describe_in_turn(one_thing("circle", "red"), QUESTIONS[::2], 3)
    assert [answer.cut for answer in said] == [True, False]
    assert len(said[0].text.split()) == 3


def test_a_listener_may_end_one_answer_of_several(nano):
    said = nano.describe_in_turn(one_thing("circle", "red"), QUESTIONS[:2], on_text=lambda number, text: number > 0)
    assert len(said[0].text.split()) <= 2
    assert len(said) == 2


def test_what_a_conversation_about_a_picture_refuses(nano):
    picture = one_thing("circle", "red")

    def need() -> None:
        raise AssertionError("the weights were asked for")

    describer = Describer(nano.und, need)
    for questions, message in (
        ([], "needs a question"),
        (["what colour is the circle?", " "], "needs a question"),
        (["what colour is the circle?", "who is it?"], "does not know: who"),
        (["what colour is the circle?", "<|im_end|>"], "own marker <|im_end|>"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            describer.describe_in_turn(picture, questions)
    with pytest.raises(ValueError, match="at least 1 token, not 0"):
        describer.describe_in_turn(picture, QUESTIONS, 0)
    ready = Describer(nano.und, lambda: None)
    with pytest.raises(ValueError, match="one conversation at a time"):
        ready.each_in_turn([[picture], [picture]], QUESTIONS, on_text=lambda number, text: None)


@pytest.mark.slow
def test_describing_needs_no_diffusers():
    code = "import sys, lightbagel_core.describe; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
