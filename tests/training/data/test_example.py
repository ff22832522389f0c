"""What an example says of itself."""

from __future__ import annotations

from PIL import Image

from lightbagel_core.training.data.example import Example, Turn, words


def test_an_edit_has_sources_and_words_are_counted_as_a_person_does():
    picture = Image.new("RGB", (8, 8))
    assert not Example((), (Turn("a circle", picture),)).edit
    assert Example((picture,), (Turn("a circle", picture),)).edit
    assert words("  make the circle   blue ") == 4 and words("") == 0
