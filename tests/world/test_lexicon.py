"""Every word that is said anywhere in the nano's world is one of its words, and every one of those is said."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.edits import KINDS, random_edit
from lightbagel_core.world.lexicon import vocabulary
from lightbagel_core.world.questions import questions
from lightbagel_core.world.sentences import SHOW_AND_TELL, caption, random_prompt
from lightbagel_core.world.stories import random_story

ROLES = {"user", "assistant"}  # of the chat template


@pytest.fixture(scope="module")
def said() -> set[str]:
    rng, texts = np.random.default_rng(0), list(SHOW_AND_TELL)
    for index in range(3000):
        scene = random_scene(rng)
        texts += [caption(scene), random_prompt(rng)[0], random_edit(rng, KINDS[index % len(KINDS)]).words]
        texts += [text for pairs in questions(rng, scene).values() for pair in pairs for text in pair]
        texts += [turn.words for turn in random_story(rng, 1.0, 0.5, 0.3).turns]
    return set(re.findall(r"\w+|\S", " ".join(texts)))


def test_what_is_said_is_known(said):
    assert said - set(vocabulary()) == set()


def test_what_is_known_is_said(said):
    assert set(vocabulary()) - said == ROLES


def test_words_are_sorted_and_there_once():
    words = vocabulary()
    assert words == sorted(set(words))
    assert all(word == word.lower() for word in words)
