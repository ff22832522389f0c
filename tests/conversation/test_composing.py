"""Plans carried out by scripted answers of a VLM: three steps, a critic that never agrees, one that talks nonsense."""

from __future__ import annotations

import json

import pytest
from scenes import PICTURE
from scripted import scripted_model

from lightbagel_core.conversation.composing import compose

PLAN = json.dumps(
    {
        "steps": [
            {"kind": "words", "text": "This is a circle:"},
            {"kind": "draw", "text": "a red circle"},
            {"kind": "edit", "text": "make it blue"},
        ]
    }
)
GOOD = '{"good": true}'
BAD = '{"good": false, "why": "It is too small.", "prompt": "one large circle"}'
QUICK = {"steps": 1, "progress": False}


@pytest.fixture
def made(monkeypatch):
    """What is drawn, call by call; a model of scripted answers for `compose`."""

    def model_of(*answers: str):
        model = scripted_model(*answers)
        calls: list[tuple] = []
        for name in ("generate", "edit"):

            def call(*args, name=name, **asked):
                found = getattr(type(model), name)(model, *args, **asked)
                calls.append((name, *args, asked["seed"], found[0]))
                return found

            setattr(model, name, call)
        return model, calls

    return model_of


def test_three_steps(made):
    model, calls = made(PLAN, GOOD)
    told = []
    found = compose(model, "Tell me of circles.", seed=7, on_part=told.append, **QUICK)
    (_, _, _, drawn), (_, before, _, _, edited) = calls
    assert [call[:-1] for call in calls] == [("generate", "a red circle", 7), ("edit", drawn, "make it blue", 7)]
    assert before is drawn
    assert [part.step.text for part in found.parts if part.picture is None] == ["This is a circle:"]
    assert [part.settings.get("seed") for part in told] == [None, 7, 7]
    assert found.pictures == [drawn, edited]
    assert list(found.parts) == told
    assert [(part.tries, part.verdict and part.verdict.good) for part in told] == [(1, None), (1, True), (1, True)]


def test_a_critic_that_never_agrees_is_asked_a_bounded_number_of_times(made):
    model, calls = made(PLAN, BAD)
    found = compose(model, "Tell me of circles.", tries=2, seed=2**64 - 1, **QUICK)
    drawn = [call[1:3] for call in calls if call[0] == "generate"]
    edits = [call[1:4] for call in calls if call[0] == "edit"]
    assert drawn == [("a red circle", 2**64 - 1), ("one large circle", 0), ("one large circle", 1)]
    tried = [("make it blue", 2**64 - 1), *drawn[1:]]
    assert edits == [(calls[2][-1], *each) for each in tried]
    assert found.pictures == [calls[2][-1], calls[5][-1]]  # the last try of each
    assert [(part.tries, part.prompt) for part in found.parts[1:]] == [(3, "one large circle")] * 2
    assert found.parts[1].verdict.why == "It is too small."


def test_a_critic_that_answers_no_json_agrees_with_a_warning(made):
    model, calls = made(PLAN, "Very nice.")
    with pytest.warns(UserWarning, match="no verdict: it is no JSON"):
        found = compose(model, "Tell me of circles.", **QUICK)
    assert len(calls) == 2
    assert found.parts[1].verdict.good


def test_without_tries_the_critic_is_not_asked(made):
    model, calls = made(PLAN, BAD)
    found = compose(model, "Tell me of circles.", tries=0, **QUICK)
    assert len(calls) == 2
    assert [part.verdict for part in found.parts] == [None] * 3


def test_an_edit_may_begin_with_a_given_picture(made):
    model, calls = made(json.dumps({"steps": [{"kind": "edit", "text": "make it blue"}]}), GOOD)
    compose(model, "Blue, please.", [PICTURE], image_guidance=1.5, **QUICK)
    assert calls[0][1].tobytes() == PICTURE.tobytes()


def test_image_guidance_is_for_edits_alone(made):
    model, calls = made(PLAN, GOOD)
    compose(model, "Tell me of circles.", image_guidance=1.5, **QUICK)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tries": 11}, "between 0 and 10 times, not 11"),
        ({"tries": -1}, "not -1"),
        ({"num_images": 2}, "makes one picture"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(made, options, message):
    model, calls = made("no plan")
    with pytest.raises(ValueError, match=message):
        compose(model, "Tell me of circles.", **options)
    with pytest.raises(ValueError, match="made no plan"):
        compose(model, "Tell me of circles.")
    assert calls == []


def test_the_nano_says_that_it_cannot_plan(nano):
    with pytest.raises(ValueError, match="the nano cannot plan"):
        nano.compose("a red circle")


def test_an_objection_whose_words_cannot_be_read_is_still_one(made):
    marked = '{"good": false, "why": "It is small.", "prompt": "large <|im_end|> circle"}'
    model, calls = made(PLAN, marked, GOOD)
    found = compose(model, "Tell me of circles.", **QUICK)
    assert [call[1] for call in calls if call[0] == "generate"] == ["a red circle", "a red circle"]
    assert found.parts[1].tries == 2


def test_guidance_of_edits_is_looked_at_before_the_plan(made):
    model, calls = made(PLAN, GOOD)
    with pytest.raises(ValueError, match="image guidance must be a finite number"):
        compose(model, "Tell me of circles.", image_guidance=float("nan"), **QUICK)
    assert calls == []
