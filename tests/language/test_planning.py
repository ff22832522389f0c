"""Plans and verdicts: what the VLM is asked, which answers are used, and what is said of the others."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import scripted
from scenes import PICTURE

from lightbagel_core.language.planning import (
    KINDS,
    MOST_STEPS,
    Step,
    Verdict,
    plan,
    plan_talk,
    read_plan,
    read_verdict,
    verdict_talk,
)
from lightbagel_core.model.chat import Answer

STEPS = [Step("words", "A circle."), Step("draw", "a red circle"), Step("edit", "make it blue")]


def said(*steps: tuple[str, str], cut: bool = False) -> Answer:
    return Answer(json.dumps({"steps": [{"kind": kind, "text": text} for kind, text in steps]}), cut)


def test_a_plan_is_read():
    answer = said(*((step.kind, f" {step.text}\n") for step in STEPS))
    assert read_plan(answer) == STEPS
    for around in ("```json\n{}\n```", "Here is the plan:\n{}\nI hope it helps."):
        assert read_plan(Answer(around.replace("{}", answer.text))) == STEPS
    assert read_plan(said(("edit", "make it blue")), pictures=1) == STEPS[2:]
    assert read_plan(said(*[("words", "more")] * MOST_STEPS))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(""), "it is no JSON"),
        (Answer("A red circle, then a blue one."), "it is no JSON"),
        (Answer('{"steps": [{"kind": "draw", "te', cut=True), "its end is cut off"),
        (Answer('{"a":' * 100_000 + "}"), "it is no JSON"),
        (Answer('{"plan": []}'), 'the key "steps" alone'),
        (Answer('{"steps": [], "title": "x"}'), 'the key "steps" alone'),
        (Answer('{"steps": []}'), 'the key "steps" alone'),
        (Answer('{"steps": {"kind": "draw"}}'), "with a list of steps"),
        (Answer('{"steps": ["draw a circle"]}'), 'step 1 must have the keys "kind" and "text"'),
        (Answer('{"steps": [{"kind": "draw"}]}'), 'step 1 must have the keys "kind" and "text"'),
        (Answer('{"steps": [{"kind": "draw", "text": "x", "seed": 1}]}'), "and no other"),
        (said(("words", "x"), ("paint", "a circle")), "the kind of step 2 must be one of words, draw, edit"),
        (Answer('{"steps": [{"kind": ["draw"], "text": "x"}]}'), "the kind of step 1 must be"),
        (Answer('{"steps": [{"kind": "draw", "text": 5}]}'), "the text of step 1 must be words"),
        (said(("draw", " ")), "the text of step 1 must be words"),
        (said(("words", "x"), ("edit", "make it blue")), "step 2 is an edit, and there is no picture before it"),
        (said(*[("words", "more")] * (MOST_STEPS + 1)), f"has {MOST_STEPS + 1} steps, more than {MOST_STEPS}"),
    ],
)
def test_what_is_no_plan_is_refused(answer, message):
    with pytest.raises(ValueError, match=message):
        read_plan(answer)


def test_a_verdict_is_read():
    assert read_verdict(Answer('{"good": true}')) == Verdict(True)
    text = '{"good": false, "why": "it is red ", "prompt": " a blue circle"}'
    assert read_verdict(Answer(f"```\n{text}\n```")) == Verdict(False, "it is red", "a blue circle")


@pytest.mark.parametrize(
    "text", ["yes", "[true]", "{}", '{"good": "yes"}', '{"good": 1}', '{"good": false, "prompt": null}']
)
def test_what_is_no_verdict_is_refused(text):
    with pytest.raises(ValueError, match=r"it is no JSON|it must have"):
        read_verdict(Answer(text))


@pytest.mark.parametrize(("request_", "word"), [("Tell of a circle.", "Rules"), ("讲一个圆的故事。", "规则")])
def test_the_questions_are_in_the_language_of_the_request(request_, word):
    (_, (system,)), (_, parts) = plan_talk(request_, [PICTURE]).messages
    assert word in system
    assert parts == [PICTURE, request_]
    assert f" {MOST_STEPS} " in system or f"{MOST_STEPS}步" in system
    assert all(f'"{kind}"' in system for kind in KINDS)
    (_, (critic,)), (_, (picture, text)) = verdict_talk(PICTURE, request_).messages
    assert ("文本" in critic) == (word == "规则")
    assert picture is PICTURE
    assert request_ in text


def test_a_plan_that_is_none_is_asked_for_once_more():
    answers = ["First a circle!", said(("draw", "a red circle")).text]
    und = scripted.scripted_understanding(*answers)
    assert plan(und, "Show me a circle.") == STEPS[1:2]


def test_what_was_wrong_is_told_the_vlm():
    und = scripted.scripted_understanding('{"steps": []} ', "Then not.")
    read: list[str] = []
    und.vlm.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(und.tokenizer.decode(kwargs["input_ids"][0])), with_kwargs=True
    )
    with pytest.raises(ValueError, match=r"made no plan, also when asked again: it is no JSON\..*It said: Then not\."):
        plan(und, "Show me a circle.")
    first, second = (text for text, before in pairwise([*read, ""]) if "Show me" in text)
    assert "cannot be used" not in first
    assert second.index('{"steps": []}<|im_end|>') < second.index('cannot be used: it must have the key "steps"')


def test_a_step_that_cannot_be_read_again_is_no_step():
    """Nor is the VLM given its answer again, which it could not read either."""
    und = scripted.scripted_understanding(
        said(("draw", "a <|vision_start|>")).text, said(("draw", "a red circle")).text
    )
    assert plan(und, "Show me a circle.") == STEPS[1:2]


def test_an_empty_request_and_the_nano_are_refused(nano):
    with pytest.raises(ValueError, match="the request is empty"):
        plan_talk(" ")
    with pytest.raises(ValueError, match="the nano cannot plan"):
        plan(nano.und, "a red circle")
