"""One item of a contact sheet."""

from __future__ import annotations

import numpy as np
import pytest
from invented import worst
from PIL import Image

from lightbagel_core.evaluation.show import sheet_card
from lightbagel_core.evaluation.show.fonts import bundled
from lightbagel_core.evaluation.show.lettering import Lettering
from lightbagel_core.evaluation.show.sheet_card import (
    GAP,
    MOST_PICTURES,
    PAD,
    THUMB,
    Letters,
    captioned,
    card,
    thumbnail,
    tiles,
    width,
)

pytest.importorskip("matplotlib")
RED, GREY = (222, 40, 40), (217, 217, 217)


@pytest.fixture(scope="module")
def plain():
    return Lettering([bundled()], 14)


def saved(file, size=(64, 64), colour=RED):
    Image.new("RGB", size, colour).save(file)
    return file.name


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((64, 64), (192, 192)),
        ((128, 128), (192, 192)),
        ((1024, 512), (192, 96)),
        ((3, 2), (192, 128)),
        ((8, 1), (192, 24)),
    ],
)
def test_every_picture_fills_its_tile(size, shown):
    assert thumbnail(Image.new("RGB", size)).size == shown


def test_a_small_picture_stays_sharp():
    pixels = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    shown = np.asarray(thumbnail(Image.fromarray(pixels)))
    assert (shown == pixels.repeat(3, 0).repeat(3, 1))[1:-1, 1:-1].all()


def test_what_cannot_be_shown_is_a_grey_tile_and_a_sentence(tmp_path, plain):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "folder.png").mkdir()
    row = worst(7, saved(tmp_path / "a.png"), "gone.png", "broken.png", "folder.png", "../secret.png", "/etc/passwd")
    shown, bad = tiles(tmp_path, row, plain)
    assert shown[0].getpixel((90, 90)) == RED
    assert [tile.getpixel((5, 5)) for tile in shown[1:]] == [GREY] * 5
    assert all(tile.size == (THUMB, THUMB) for tile in shown)
    assert all(len(np.unique(np.asarray(tile))) > 2 for tile in shown[1:]), "something is written on it"
    assert [sentence.split(":")[0] for sentence in bad] == ["item 00007"] * 5
    assert "gone.png is missing" in bad[0]
    assert "broken.png cannot be shown" in bad[1]
    assert "does not stay below" in bad[3]
    assert bad[3].count("item 00007") == 1


def test_more_pictures_than_fit_are_counted(tmp_path, plain):
    names = [saved(tmp_path / f"{i}.png") for i in range(MOST_PICTURES + 3)]
    shown, bad = tiles(tmp_path, worst(0, *names), plain)
    assert len(shown) == MOST_PICTURES
    assert bad == []
    assert shown[-1] == sheet_card.grey_tile("and 4 more pictures", plain)
    assert shown[-2].getpixel((5, 5)) == RED


def test_no_picture_at_all_is_one_tile(tmp_path, plain):
    shown, bad = tiles(tmp_path, worst(0), plain)
    assert [tile.getpixel((5, 5)) for tile in shown] == [GREY]
    assert bad == []


def test_a_card_grows_with_its_words_to_a_limit(tmp_path, plain):
    letters, wide = Letters(plain, plain, plain), width([worst(0, "a", "b")])
    tile = [Image.new("RGB", (THUMB, THUMB), RED)] * 2
    heights = [card(worst(0, prompt="many words " * n), "0.000", tile, wide, letters).height for n in (1, 20, 200, 900)]
    assert heights[0] < heights[1] <= heights[2] == heights[3]
    shown = card(worst(0), "0.000", tile, wide, letters)
    assert shown.width == wide == 2 * THUMB + GAP + 2 * PAD
    assert shown.getpixel((PAD + 9, PAD + 9)) == shown.getpixel((PAD + THUMB + GAP + 9, PAD + 9)) == RED


def test_all_cards_are_as_wide_as_the_widest():
    assert width([]) == width([worst(0, "a")]) == width([worst(0, "a", "b")])
    assert width([worst(0, "a"), worst(1, *"abcd")]) == 4 * (THUMB + GAP) - GAP + 2 * PAD
    assert width([worst(0, *"abcdefghij")]) == width([worst(0, *"abcdef")])


def test_texts_below_pictures_have_lines_and_colours_of_their_own(plain):
    tiles = [thumbnail(Image.new("RGB", (64, 32), colour), 384) for colour in (RED, GREY)]
    texts = [(plain, "word " * 100, "#0000ff", 2), (plain, "more", "#00ff00", 1)]
    shown = captioned(tiles, texts, 800)
    assert shown.size == (800, 192 + 3 * PAD + 3 * plain.height)
    assert [shown.getpixel((x, 100)) for x in (PAD + 9, PAD + 384 + GAP + 9)] == [RED, GREY]
    rows = np.asarray(shown)[192 + 2 * PAD : 192 + 2 * PAD + 3 * plain.height].reshape(3, plain.height, 800, 3)
    blue, green = ((rows == colour).all(-1).any((1, 2)).tolist() for colour in ((0, 0, 255), (0, 255, 0)))
    assert (blue, green) == ([True, True, False], [False, False, True])
