"""What a caption or a plain sentence describes is the scene it was made of; what says less or other is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.scenes import RELATION, Scene, Thing, pick, render
from lightbagel_core.world.sentence_reader import scene_of_sentence
from lightbagel_core.world.sentences import PLACE_PHRASE, caption, noun, prompt_for

BETWEEN = RELATION.values()


def test_a_caption_is_read_back():
    rng = np.random.default_rng(0)
    for _ in range(400):
        scene = random_scene(rng)
        assert scene_of_sentence(caption(scene)).attributes == scene.attributes, caption(scene)


def plain(rng: np.random.Generator, scene: Scene) -> str:
    """A sentence that names every thing with its colour and place; sizes and a white background may go unsaid."""
    things = [scene.things[int(i)] for i in rng.permutation(len(scene.things))]
    nouns = [noun(thing, rng.random() < 0.5) for thing in things]
    places = tuple(thing.place for thing in things)
    if places in RELATION and rng.random() < 0.5:
        body = f"{nouns[0]} {RELATION[places]} {nouns[1]}"
    else:
        joint = pick(rng, (" and ", ", ", ", and "))
        body = joint.join(f"{n} {PLACE_PHRASE[place]}" for n, place in zip(nouns, places, strict=True))
    unsaid = scene.background == "white" and rng.random() < 0.5
    return body if unsaid else f"{body} on a {scene.background} background"


def test_a_plain_sentence_is_read_back_but_for_what_it_leaves_open():
    rng = np.random.default_rng(1)
    for count in (2, 3, 4) * 100:
        scene = random_scene(rng, count)
        sentence = plain(rng, scene)
        agrees(scene_of_sentence(sentence), scene, sentence)


def test_a_prompt_is_read_back_or_refused_but_never_misread():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(600):
        prompt, scene = prompt_for(rng, random_scene(rng))
        try:
            found.append(scene_of_sentence(prompt))
        except ValueError:
            continue
        agrees(found[-1], scene, prompt)
    assert 150 < len(found) < 450, "both happen"


def agrees(read: Scene, scene: Scene, sentence: str) -> None:
    """Fails where what was read is not what the sentence says of the scene."""
    open_places = len(scene.things) == 2 and not any(word in sentence for word in (*PLACE_PHRASE.values(), *BETWEEN))
    assert read.background == scene.background, sentence
    assert len(read.things) == len(scene.things), sentence
    if open_places:
        assert Counter((t.shape, t.colour) for t in read.things) == Counter((t.shape, t.colour) for t in scene.things)
        return
    for a, b in zip(read.things, scene.things, strict=True):
        assert (a.shape, a.colour, a.place) == (b.shape, b.colour, b.place), sentence
        said = [f"{noun(b)} {PLACE_PHRASE[b.place]}"]
        said += [f"{noun(b)} {word}" for (place, _), word in RELATION.items() if place == b.place]
        said += [f"{word} {noun(b)}" for (_, place), word in RELATION.items() if place == b.place]
        assert a.size == b.size or not any(words in sentence for words in said), sentence


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
        ("two red circles", "describes no scene"),
        ("a circle on a grey background", "describes no scene"),
        ("a red circle next to a blue star", "describes no scene"),
        ("a red circle on grey", "describes no scene"),
        ("red circle", "describes no scene"),
    ],
)
def test_what_is_no_sentence_of_the_world_is_refused(sentence, said):
    with pytest.raises(ValueError, match=said):
        scene_of_sentence(sentence)
