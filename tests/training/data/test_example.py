"""What an example says of itself."""

from __future__ import annotations

from PIL import Image

from lightbagel_core.training.data.example import Example, Turn, words


def test_an_edit_has_sources_and_a_text_about_a_token_for_four_bytes():
    picture = Image.new("RGB", (8, 8))
    assert not Example((), (Turn("a circle", picture),)).edit
    assert Example((picture,), (Turn("a circle", picture),)).edit
    assert [words(text) for text in ("", "a", "blue", "circle", "圆")] == [0, 1, 1, 2, 1]
