"""What a sentence describes is the scene it was made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightbagel_core.world.arrangements import scene_of
from lightbagel_core.world.scenes import RELATION, Scene, Thing, random_scene, render
from lightbagel_core.world.sentence_reader import scene_of_sentence
from lightbagel_core.world.sentences import PLACE_PHRASE, caption, noun, prompt_for

BETWEEN = RELATION.values()


def test_a_caption_is_read_back():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = random_scene(rng)
        assert scene_of_sentence(caption(scene)).attributes == scene.attributes
    for count in (3, 4):
        scene = scene_of(rng, count, size="small")
        assert scene_of_sentence(caption(scene)).attributes == scene.attributes


def test_a_prompt_is_read_back_but_for_what_it_leaves_open():
    rng = np.random.default_rng(1)
    for _ in range(300):
        prompt, scene = prompt_for(rng, random_scene(rng))
        open_places = len(scene.things) == 2 and not any(word in prompt for word in (*PLACE_PHRASE.values(), *BETWEEN))
        read = scene_of_sentence(prompt)
        assert read.background == scene.background
        assert len(read.things) == len(scene.things)
        for a, b in zip(read.things, () if open_places else scene.things, strict=not open_places):
            assert (a.shape, a.colour, a.place) == (b.shape, b.colour, b.place), prompt
            assert a.size == b.size or noun(b) not in prompt, prompt


def test_what_is_left_open_is_always_the_same():
    left, right = Thing("circle", "red", "large", "left"), Thing("star", "blue", "large", "right")
    assert scene_of_sentence("a red circle and a blue star") == Scene("white", (left, right))
    assert scene_of_sentence(" A red  circle. ") == Scene("white", (replace(left, place="centre"),))
    assert scene_of_sentence("a plain grey background") == scene_of_sentence("a grey background") == Scene("grey")
    centre = scene_of_sentence("a red circle in the centre and a blue star on the left")
    assert [thing.size for thing in centre.things] == ["small", "small"], "two large ones would touch"
    assert render(centre).shape == (128, 128, 3)


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("", "describes no scene"),
        ("a red cat", "describes no scene"),
        ("/pictures/a.png", "describes no scene"),
        ("a red circle left of", "describes no scene"),
        ("a red circle on the left and a blue star on the left", "at which place of its own"),
        ("a red circle on the left and a blue star", "at which place of its own"),
        ("a red circle, a blue star and a green square", "at which place of its own"),
        ("a yellow circle on a yellow background", "nobody could see"),
    ],
)
def test_what_is_no_sentence_of_the_world_is_refused(sentence, said):
    with pytest.raises(ValueError, match=said):
        scene_of_sentence(sentence)
