"""The contact sheet."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from invented import geneval, run, worst
from made_font import square_font
from PIL import Image

from lightbagel_core.evaluation.show import fonts
from lightbagel_core.evaluation.show.lettering import Lettering
from lightbagel_core.evaluation.show.sheet import MARGIN, MOST, PAD, WIDTH, page, write_sheet
from lightbagel_core.evaluation.show.sheet_card import Letters

pytest.importorskip("matplotlib")


@pytest.fixture
def pictures(tmp_path):
    """A run's folder with twelve pairs of pictures, the second of each pair in a colour of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    for index in range(12):
        Image.new("RGB", (64, 64), "white").save(folder / f"{index}_SRCIMG.png")
        Image.new("RGB", (64, 64), (20 * index, 5, 200)).save(folder / f"{index}.png")
    return folder


def items(count, **fields):
    return tuple(worst(i, f"{i}_SRCIMG.png", f"{i}.png", **fields) for i in range(count))


def colours(file):
    """Which of the twelve pictures are on a sheet, in reading order."""
    pixels = np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3)
    ours = pixels[(pixels[:, 1] == 5) & (pixels[:, 2] == 200)][:, 0]
    return list(dict.fromkeys((ours // 20).tolist()))


def test_the_worst_items_are_on_the_sheet_in_order(pictures, tmp_path):
    notes = write_sheet(tmp_path / "sheet.png", run("nano", geneval(worst=items(12)), pictures))
    assert notes == ()
    assert colours(tmp_path / "sheet.png") == list(range(12))
    assert sorted(os.listdir(tmp_path)) == ["run", "sheet.png"]
    assert Image.open(tmp_path / "sheet.png").width <= 1700


def test_no_more_items_than_asked(pictures, tmp_path):
    write_sheet(tmp_path / "sheet.png", run("nano", geneval(worst=items(12)), pictures), most=5)
    assert colours(tmp_path / "sheet.png") == list(range(5))


def test_the_size_is_bounded(tmp_path):
    words = "many words " * 60
    rows = tuple(worst(i, *"abc", prompt=words, reason=words) for i in range(40))
    write_sheet(tmp_path / "sheet.png", run("nano", geneval(worst=rows), tmp_path), most=30)
    width, height = Image.open(tmp_path / "sheet.png").size
    assert width <= 1700
    assert height <= 30 / 2 * 440 + 200


def test_none_is_a_sheet_that_says_so(tmp_path):
    assert write_sheet(tmp_path / "sheet.png", run("nano", geneval(), tmp_path)) == ()
    assert Image.open(tmp_path / "sheet.png").height < 200


def test_pictures_that_are_gone_are_noted(pictures, tmp_path):
    (pictures / "3.png").unlink()
    notes = write_sheet(tmp_path / "sheet.png", run("nano", geneval(worst=items(5)), pictures))
    assert notes == ("item 00003: 3.png is missing",)
    assert colours(tmp_path / "sheet.png") == [0, 1, 2, 4]


def test_chinese_is_drawn_where_a_font_has_it_and_noted_where_none_has(pictures, tmp_path, monkeypatch):
    file, of = tmp_path / "sheet.png", run("nano", geneval(worst=items(2, prompt="把红色", reason="没")), pictures)
    font = square_font(tmp_path / "squares.ttf", "把红色没")
    dark = []
    for system in ([font], []):
        monkeypatch.setattr(fonts, "_of_system", lambda held=system: held)
        notes = write_sheet(file, of)
        assert len(notes) == (0 if system else 1)
        dark.append((np.asarray(Image.open(file).convert("L")) < 60).sum())
    assert "No font on this machine has 4 of the characters" in notes[0]
    assert dark[0] - dark[1] > 2 * 3 * 14 * 14 - 200, "three full squares in each prompt"


@pytest.mark.parametrize("most", [0, -1, MOST + 1])
def test_a_number_out_of_range_is_refused(tmp_path, most):
    with pytest.raises(ValueError, match=f"1 to {MOST} items, not {most}"):
        write_sheet(tmp_path / "sheet.png", run("nano", geneval(), tmp_path), most)


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        write_sheet(tmp_path / "none" / "sheet.png", run("nano", geneval(), tmp_path))


def test_without_matplotlib_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match="need matplotlib: pip install matplotlib"):
        write_sheet(tmp_path / "sheet.png", run("nano", geneval(), tmp_path))


def test_cards_of_several_widths_fill_the_rows_in_their_order():
    plain = Lettering([fonts.bundled()], 14)
    cards = [Image.new("RGB", (width, 50 + i), (i, 9, 9)) for i, width in enumerate((800, 700, 400, 900, 1600, 100))]
    shown = np.asarray(page(cards, "", "", Letters(plain, plain, plain)))
    assert shown.shape[1] == 1600 + 2 * MARGIN, "what is wider than a page has a row of its own"
    corners = [np.argwhere((shown == (i, 9, 9)).all(-1)).min(0).tolist() for i in range(len(cards))]
    rows = MARGIN + PAD + np.cumsum([0, 51 + PAD, 53 + PAD, 54 + PAD])
    places = [(rows[0], MARGIN), (rows[0], MARGIN + 800 + PAD), (rows[1], MARGIN), (rows[1], MARGIN + 400 + PAD)]
    assert 800 + PAD + 700 <= WIDTH - 2 * MARGIN < 800 + 700 + 400
    assert corners == [list(map(int, at)) for at in [*places, (rows[2], MARGIN), (rows[3], MARGIN)]]
