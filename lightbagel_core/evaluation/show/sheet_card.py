"""One item of a contact sheet: its pictures side by side, what was asked, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from ...images import open_image
from ..items import inside
from ..scores import Worst
from .lettering import Lettering

THUMB, GAP, PAD = 192, 6, 10  # pixels
MOST_PICTURES = 6  # of an item; a last tile says how many more there are
LINES = 4  # of a prompt, and of a reason
INK, PALE, WRONG, CARD, TILE = "#1b1b1b", "#6a6a6a", "#a33b00", "#ffffff", "#d9d9d9"


@dataclass(frozen=True)
class Letters:
    """The letterings of a sheet, from the largest."""

    title: Lettering
    bold: Lettering
    plain: Lettering


def width(rows: Sequence[Worst]) -> int:
    """Pixels of every card of a sheet, so that the item with most pictures fits."""
    slots = max([1, *(min(len(row.pictures), MOST_PICTURES) for row in rows)])
    return max(slots, 2) * (THUMB + GAP) - GAP + 2 * PAD


def thumbnail(picture: Image.Image, side: int = THUMB) -> Image.Image:
    """The picture, in a thin frame, with a long side of `side` pixels; made larger by a whole factor it stays sharp."""
    long = max(picture.size)
    size = (max(1, round(picture.width * side / long)), max(1, round(picture.height * side / long)))
    whole = side % long == 0
    small = picture.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)
    ImageDraw.Draw(small).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=TILE)
    return small


def tiles(folder: Path, row: Worst, lettering: Lettering) -> tuple[list[Image.Image], list[str]]:
    """(an item's pictures as thumbnails, a sentence for each that could not be shown); those are grey tiles."""
    shown, bad = [], []
    for name in row.pictures[:MOST_PICTURES]:
        try:
            file = inside(folder, name, f"item {row.id}")
        except ValueError as error:
            bad.append(str(error))
            shown.append(grey_tile(f"{name} cannot be read", lettering))
            continue
        try:
            shown.append(thumbnail(open_image(file)))
        except ValueError as error:
            gone = not file.is_file()
            bad.append(f"item {row.id}: {name} {'is missing' if gone else f'cannot be shown: {error}'}")
            shown.append(grey_tile(f"{name} {'is missing' if gone else 'cannot be read'}", lettering))
    if len(row.pictures) > MOST_PICTURES:
        shown[-1] = grey_tile(f"and {len(row.pictures) - MOST_PICTURES + 1} more pictures", lettering)
    return shown or [grey_tile("no picture", lettering)], bad


def grey_tile(words: str, lettering: Lettering, side: int = THUMB) -> Image.Image:
    """A tile that says why there is no picture."""
    tile = Image.new("RGB", (side, side), TILE)
    lines = lettering.wrap(words, side - 2 * PAD, 5)
    y = (side - len(lines) * lettering.height) / 2
    for index, line in enumerate(lines):
        x = (side - lettering.length(line)) / 2
        lettering.draw(ImageDraw.Draw(tile), (x, y + index * lettering.height), line, PALE)
    return tile


def card(row: Worst, score: str, pictures: Sequence[Image.Image], wide: int, letters: Letters) -> Image.Image:
    """An item's card, `wide` pixels wide and as high as its words need. score: as it is to be written."""
    texts = [
        (letters.bold, f"{row.id} · {score}", INK, 1),
        (letters.plain, row.prompt, INK, LINES),
        (letters.plain, row.reason, WRONG, LINES),
    ]
    return captioned(pictures, texts, wide)


def captioned(
    pictures: Sequence[Image.Image], texts: Sequence[tuple[Lettering, str, str, int]], wide: int
) -> Image.Image:
    """Pictures side by side above texts, each in a colour and in so many lines at most."""
    lines = [
        (lettering, line, colour)
        for lettering, text, colour, most in texts
        for line in lettering.wrap(text, wide - 2 * PAD, most)
    ]
    top = 2 * PAD + max(picture.height for picture in pictures)
    image = Image.new("RGB", (wide, top + sum(lettering.height for lettering, _, _ in lines) + PAD), CARD)
    left = PAD
    for picture in pictures:
        image.paste(picture, (left, PAD))
        left += max(picture.width, THUMB) + GAP
    canvas = ImageDraw.Draw(image)
    for lettering, line, colour in lines:
        lettering.draw(canvas, (PAD, top), line, colour)
        top += lettering.height
    return image
