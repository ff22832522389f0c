"""The scripted VLM says what was written, whatever it is asked, one text a call."""

from __future__ import annotations

import pytest
from PIL import Image
from scripted import pieces_of, save_scripted, scripted_understanding

from lightbagel_core.model import chat
from lightbagel_core.pipeline import LightBagel

TEXTS = ("A red apple, and beside it a green pear.", "<think> first this </think> 好的，一只猫。", '{"a": [1, 2]}')


def test_it_says_one_text_after_the_other():
    und = scripted_understanding(*TEXTS)
    asked = chat.Talk([("system", ["Write prompts."]), ("user", [Image.new("RGB", (60, 60)), "say!"])])
    assert [chat.answer(und, asked).text for _ in range(4)] == [*TEXTS, TEXTS[-1]]


def test_sampling_says_the_same():
    assert chat.answer(scripted_understanding(TEXTS[0]), ([], "?"), do_sample=True, temperature=1.0).text == TEXTS[0]


def test_a_word_may_come_twice_but_not_last():
    assert pieces_of(["a b a b c"]) == [["a", " b", " a", " b c"]]
    with pytest.raises(ValueError, match="end it otherwise"):
        pieces_of(["so so so"])


def test_its_folder_opens_like_any_other(tmp_path):
    model = LightBagel.from_pretrained(save_scripted(tmp_path / "scripted", TEXTS[0]), "cpu")
    assert model.describe(Image.new("RGB", (128, 128), "red"), "what is there?") == TEXTS[0]
    (picture,) = model.generate("any words at all", steps=1, progress=False)
    assert picture.size == (96, 96)
