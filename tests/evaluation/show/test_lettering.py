"""Text in pictures: measured, wrapped, drawn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from made_font import square_font
from PIL import Image, ImageDraw

from lightbagel_core.evaluation.show.fonts import bundled
from lightbagel_core.evaluation.show.lettering import Lettering


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    return Lettering([bundled(), square_font(tmp_path_factory.mktemp("fonts") / "squares.ttf", "红色圆")], 20)


def drawn(letters, text):
    image = Image.new("L", (200, 40), 255)
    letters.draw(ImageDraw.Draw(image), (0, 0), text, "black")
    return np.asarray(image) < 128


def test_each_stretch_is_measured_with_its_own_font(letters):
    assert letters.length("红色") == 40
    assert letters.length("a红b") == pytest.approx(letters.length("a") + 20 + letters.length("b"))


def test_a_second_font_is_drawn_where_the_first_lacks_a_character(letters):
    """A full square of 20 pixels stands there, no box."""
    ink = drawn(letters, "红")
    rows, columns = np.where(ink)
    assert ink.sum() == 400
    assert (np.ptp(rows), np.ptp(columns)) == (19, 19)
    assert drawn(letters, "l红").sum() > 400


def test_fonts_stand_on_one_line(letters):
    assert np.where(drawn(letters, "红"))[0].max() == np.where(drawn(letters, "H"))[0].max()


def test_lines_are_as_wide_as_they_may_be(letters):
    text = "the quick brown fox jumps over the lazy dog"
    lines = letters.wrap(text, 150, 9)
    assert " ".join(lines) == text
    assert all(letters.length(line) <= 150 for line in lines)
    for line, after in pairwise(lines):
        assert letters.length(f"{line} {after.split()[0]}") > 150


def test_text_without_spaces_breaks_anywhere(letters):
    assert letters.wrap("红色圆红色圆红", 65, 9) == ["红色圆", "红色圆", "红"]
    lines = letters.wrap("a" * 50, 100, 99)
    assert "".join(lines) == "a" * 50
    assert all(letters.length(line) <= 100 for line in lines)


def test_what_does_not_fit_ends_in_an_ellipsis(letters):
    lines = letters.wrap("word " * 50, 100, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert letters.length(lines[-1]) <= 100
    assert letters.wrap("word", 100, 1) == ["word"]


def test_nothing_is_no_line(letters):
    assert letters.wrap(" \n ", 100, 3) == []
    assert len(letters.wrap("wide", 1, 2)) <= 2


def test_what_no_font_has_is_a_question_mark():
    letters = Lettering([bundled()], 20, frozenset("红色"))
    assert letters.wrap("make it 红色 now", 500, 3) == ["make it ? now"]
