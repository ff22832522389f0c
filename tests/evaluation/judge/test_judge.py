"""What a judge is sent, against the form that the benches' official scripts send; and settings that make no sense."""

from __future__ import annotations

import base64
from dataclasses import FrozenInstanceError

import pytest

from lightbagel_core.evaluation.bench import Question
from lightbagel_core.evaluation.judge.judge import Judge

URL = "http://localhost:8000/v1"


def question(**rest) -> Question:
    return Question("1", "Score both.", (lambda: b"source", lambda: b"edited"), bool, **rest)


def test_the_text_goes_first_then_the_pictures_in_order():
    """As ImgEdit's basic_bench.py and WISE's vllm_eval.py have it."""
    pictures = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(data).decode()}}
        for data in (b"source", b"edited")
    ]
    user = {"role": "user", "content": [{"type": "text", "text": "Score both."}, *pictures]}
    body = Judge(URL, "gpt").body(question())
    assert body == {"model": "gpt", "messages": [user], "temperature": 0.0, "max_tokens": 2000}
    body = Judge(URL, "gpt", temperature=None, max_tokens=None, extra={"seed": 3}).body(question(system="Be strict."))
    assert body == {"model": "gpt", "messages": [{"role": "system", "content": "Be strict."}, user], "seed": 3}


def test_a_judge_is_frozen_and_its_address_tidied():
    judge = Judge("https://host/v1/chat/completions", "m")
    assert judge.url == "https://host/v1"
    with pytest.raises(FrozenInstanceError):
        judge.url = "https://elsewhere/v1"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": " "}, "no name"),
        ({"url": "http://8.8.8.8/v1"}, "everybody on the way"),
        ({"concurrency": 0}, "concurrency is 0; at least 1"),
        ({"retries": -1}, "retries is -1; at least 0"),
        ({"asks": 0}, "asks is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"timeout": 0.0}, "timeout is 0.0; it must be above 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be 0 or above"),
        ({"price_in": float("inf")}, "price_in is inf"),
        ({"price_out": -2.0}, "price_out is -2.0"),
        ({"extra": {"stream": True, "model": "x"}}, "model, stream cannot"),
    ],
)
def test_settings_that_make_no_sense(fields, said):
    with pytest.raises(ValueError, match=said):
        Judge(**{"url": URL, "model": "m", **fields})
