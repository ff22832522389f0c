"""How words are chosen: what reaches transformers' own `generate`, and that a seed gives the same words again."""

from __future__ import annotations

import pytest
import torch

from lightbagel_core.language.choosing import options_of, seeded
from lightbagel_core.model import chat


def test_without_settings_it_is_the_likeliest_word():
    assert options_of({}) == {"do_sample": False, "repetition_penalty": 1.0}
    assert options_of({"temperature": 0, "seed": 3, "repetition_penalty": 1.1}) == {
        "do_sample": False,
        "repetition_penalty": 1.1,
    }


def test_a_temperature_chooses_by_chance_with_nothing_that_was_not_asked_for():
    """transformers' own default leaves all but fifty words out."""
    everything = {"temperature": 0.7, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
    assert options_of({"temperature": 0.7}) == {"do_sample": True, **everything}
    asked = {"temperature": 0.5, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.05}
    assert options_of({**asked, "seed": 1}) == {"do_sample": True, **asked}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_p": 0.9}, "without a temperature nothing is left to top_p"),
        ({"temperature": -1}, "temperature must lie between 0 and 100, not -1"),
        ({"temperature": float("nan")}, "temperature must lie between 0 and 100, not nan"),
        ({"temperature": float("inf")}, "temperature must lie between 0 and 100, not inf"),
        ({"temperature": "hot"}, "temperature must be a number, not 'hot'"),
        ({"temperature": True}, "temperature must be a number, not True"),
        ({"temperature": 1, "top_p": 0}, "top_p must lie above 0 and at most 1, not 0"),
        ({"temperature": 1, "top_k": 2.5}, "top_k must be a whole number, not 2.5"),
        ({"temperature": 1, "min_p": 2}, "min_p must lie between 0 and 1, not 2"),
        ({"repetition_penalty": 0}, "repetition_penalty must lie above 0"),
        ({"seed": -1}, "seed must lie between 0 and 18446744073709551615, not -1"),
        ({"seed": 10**400}, "seed must lie between"),
        ({"presence_penalty": 1}, "no setting 'presence_penalty'.*temperature, top_k, top_p, min_p"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        options_of(settings)


def test_a_seed_gives_the_same_words_and_leaves_the_generator_alone(tiny):
    """The tiny's weights are random, so that by chance it says something else each time."""

    def said(seed: int) -> list[list[int]]:
        with seeded(tiny.und.device, seed):
            return chat.answer_ids(
                tiny.und, [([], "what is there?")], max_new_tokens=12, **options_of({"temperature": 5.0})
            )

    state = torch.get_rng_state()
    first = said(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert said(1) == first
    assert said(2) != first
