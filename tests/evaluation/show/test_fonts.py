"""Which fonts draw a text, and what is said where none can."""

from __future__ import annotations

import sys

import pytest
from made_font import square_font

from lightbagel_core.evaluation.show import fonts
from lightbagel_core.evaluation.show.fonts import bundled, clean, cut, fonts_for, has, lacking_note, without


@pytest.fixture
def system(monkeypatch):
    """The fonts of an invented system; the list may be filled."""
    held: list = []
    monkeypatch.setattr(fonts, "_of_system", lambda: list(held))
    return held


def test_matplotlibs_own_font_is_there_and_comes_first(system):
    assert bundled().is_file()
    assert bundled(bold=True).is_file()
    assert bundled(bold=True) != bundled()
    assert fonts_for("naïve кошка Ελληνικά") == ([bundled()], frozenset())


def test_what_the_first_font_lacks_comes_from_the_system(system, tmp_path):
    small = square_font(tmp_path / "small.ttf", "红")
    large = square_font(tmp_path / "large.ttf", "红色圆")
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    system += [broken, tmp_path / "gone.ttf", small, large]
    found, lacking = fonts_for("a 红色 circle")
    assert found == [bundled(), large]
    assert lacking == frozenset()
    assert has(large, "色")
    assert not has(small, "色")


def test_what_no_font_has_is_said_and_marked(system, tmp_path):
    system.append(square_font(tmp_path / "some.ttf", "红"))
    found, lacking = fonts_for("红色圆 red")
    assert (len(found), lacking) == (2, frozenset("色圆"))
    assert without("红色圆 red", lacking) == "红? red"
    assert "2 of the characters" in lacking_note(lacking)
    assert lacking_note(frozenset()) == ""


def test_characters_with_a_meaning_in_patterns_do_no_harm():
    assert without("a]b^c-d", frozenset("]^-")) == "a?b?c?d"


def test_the_systems_list_holds_real_fonts_alone():
    """matplotlib brings a font that has a box for every character there is; it must not be taken for one."""
    for font in fonts._of_system():
        assert "LastResort" not in font.name.replace(" ", "")
        assert "Emoji" not in font.name


def test_text_becomes_one_clean_line():
    assert clean("a\n\tb\x1b[31m  c\u200d\ufe0f ") == "a b[31m c"
    assert clean("e\u0301") == "é"
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcd fgh", 6) == "abcd…"


def test_without_matplotlib_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install matplotlib"):
        fonts_for("a")
