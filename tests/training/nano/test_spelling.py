"""What the nano's tokenizer reads as one of its words, and what it leaves unknown."""

from __future__ import annotations

import re
from string import ascii_lowercase

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from lightbagel_core.training.nano.shape import tokenizer
from lightbagel_core.training.nano.spelling import LEAST, NO_SLIPS, OTHERWISE, rules
from lightbagel_core.world.arrangements import random_scene
from lightbagel_core.world.lexicon import vocabulary
from lightbagel_core.world.questions import random_question
from lightbagel_core.world.sentences import caption, random_prompt
from lightbagel_core.world.stories import random_story

WORDS = [word for word in vocabulary() if word.isalpha()]
OWN = {*WORDS, *NO_SLIPS, *(other for others in OTHERWISE.values() for other in others)}  # never a slip


@pytest.fixture(scope="module")
def tokens() -> PreTrainedTokenizerFast:
    return tokenizer()


def read(tokens: PreTrainedTokenizerFast, text: str) -> list[str]:
    return tokens.convert_ids_to_tokens(tokens(text, add_special_tokens=False)["input_ids"])


def slips(word: str, letters: str = "aeqz") -> set[str]:
    """What a hand makes of a word; of wrong and added letters these alone."""
    found = set()
    for i in range(len(word) - 1 if len(word) > 2 else 0):
        found.add(word[:i] + word[i + 1] + word[i] + word[i + 2 :])
    for i in range(1, len(word) if len(word) >= LEAST else 0):
        found.add(word[:i] + word[i + 1 :])
        for letter in letters:
            found |= {word[:i] + letter + word[i + 1 :], word[:i] + letter + word[i:]}
    return found - {word}


def test_slips_are_read_as_the_word(tokens):
    """But for those that are words themselves; where it is one of two words, as either."""
    made = {word: slips(word) - OWN for word in WORDS}
    texts = sorted(set().union(*made.values()))
    found = dict(zip(texts, read(tokens, " ".join(texts)), strict=True))
    assert len(found) > 2000
    another = [(slip, word) for word, some in made.items() for slip in some if found[slip] != word]
    assert all(slip in slips(found[slip], ascii_lowercase) for slip, _ in another)
    assert len(another) < 0.02 * len(found)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("A lrage RDE circel", "a large red circle"),
        ("remoove the trangle.", "remove the triangle ."),
        ("chnage teh backgroud to bleu", "change the background to blue"),
        ("a yelow sqaure and two satrs", "a yellow square and two stars"),
    ],
)
def test_a_sentence_with_slips(tokens, written, meant):
    assert read(tokens, written) == meant.split()


def test_other_spellings_are_read_as_the_word(tokens):
    for word, others in OTHERWISE.items():
        for other in others:
            assert read(tokens, f"a {other}, {other.upper()}") == ["a", word, ",", word]
    assert set(OTHERWISE) <= set(WORDS)


def test_no_word_of_the_world_is_read_as_another(tokens):
    assert read(tokens, " ".join(WORDS)) == WORDS
    assert not any(re.fullmatch(pattern, word) for pattern, _ in rules(vocabulary()) for word in WORDS)


def test_what_is_said_in_the_world_is_read_as_it_is_said(tokens):
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = random_scene(rng)
        turns = random_story(rng, 1.0, 0.4, 0.2).turns
        for text in (caption(scene), random_prompt(rng)[0], *random_question(rng, scene), *(t.words for t in turns)):
            assert read(tokens, text) == re.findall(r"\w+|\S", text)


def test_words_of_their_own_stay_unknown(tokens):
    others = sorted({*NO_SLIPS} - {*WORDS})
    assert len(others) > 20
    assert set(read(tokens, " ".join(others))) == {"<unk>"}
    assert set(read(tokens, "cat tircle rad orange hexagon blackboard circlesque tablet ")) == {"<unk>"}


def test_a_word_is_read_whole_or_not_at_all(tokens):
    assert read(tokens, "bigred") == ["<unk>"]
    assert read(tokens, "greyish gray-ish") == ["<unk>", "grey", "<unk>", "<unk>"]


def test_short_words_have_no_slips_but_of_two_letters_changed_about(tokens):
    assert read(tokens, "rde ont si") == ["red", "not" if "not" in WORDS else "<unk>", "<unk>"]
    assert read(tokens, "sta star sttar") == ["<unk>", "star", "<unk>"]
    assert read(tokens, "satr") == ["star"]


def test_the_rules_are_in_the_tokenizers_own_file(tokens, tmp_path):
    tokens.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = "a lrage gray circel, a cat"
    assert read(again, text) == read(tokens, text) == ["a", "large", "grey", "circle", ",", "a", "<unk>"]


def test_only_what_stays_unknown_is_named(tiny):
    with pytest.raises(ValueError, match=r"this model does not know: brown, cat\. The words"):
        tiny.text("a huge gray cat and a brown trangle")
    assert tiny.und.text_ids("a huge gray trangle") == tiny.und.text_ids("a large grey triangle")
