"""A contact sheet of a run's worst items."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from ...files.writing import write_beside
from ..scores import WORST
from .fonts import bundled, fonts_for, lacking_note
from .lettering import Lettering
from .paper import PAPER
from .runs import Run
from .sheet_card import CARD, INK, PAD, PALE, Letters, card, tiles, width
from .targets import MADE_BY
from .words import UNITS

WIDTH, MARGIN = 1600, 24  # pixels: of the sheet, about; around it
PAGE = "#eef0f2"
MOST = 100  # items on a sheet, which then is some 10,000 pixels high


def write_sheet(path: Path, run: Run, most: int = WORST, title: str = "") -> tuple[str, ...]:
    """Writes a PNG with the worst items of a run, the lowest score first; one that says so where the run names none.

    Args:
        most: how many items at most, 1 to 100.
        title: of the bench; as in `markdown` where it is not given.

    Returns:
        Notes: sentences that say what could not be shown, pictures or characters that no font has.

    Raises:
        ValueError: `most` is out of range, matplotlib, whose font is used, is not installed, or the file could not be
            written.
    """
    if not 1 <= most <= MOST:
        raise ValueError(f"a sheet shows 1 to {MOST} items, not {most}")
    scores = run.scores
    rows = scores.worst[:most]
    bench = title or (PAPER[scores.bench].title if scores.bench in PAPER else scores.bench)
    items = "worst item" if len(rows) == 1 else f"{len(rows)} worst items"
    heading = f"{bench}: the {items} of {run.name}" if rows else f"{bench}: {run.name} names no worst items"
    texts = [text for row in rows for text in (row.id, row.prompt, row.reason, *row.pictures)]
    fonts, lacking = fonts_for("".join([heading, *texts]))
    bold = [bundled(bold=True), *fonts[1:]]
    letters = Letters(Lettering(bold, 26, lacking), Lettering(bold, 14, lacking), Lettering(fonts, 14, lacking))
    below = [f"Scores: {UNITS[scores.unit][0]}.", *([lacking_note(lacking)] if lacking else [])]
    notes = below[1:]
    cards = []
    for row in rows:
        pictures, bad = tiles(run.folder, row, letters.plain)
        cards.append(card(row, f"{row.score:.{UNITS[scores.unit][3]}f}", pictures, width(rows), letters))
        notes += bad
    data, made_by = io.BytesIO(), PngInfo()
    made_by.add_text("Software", MADE_BY)
    page(cards, heading, " ".join(below), letters).save(data, "PNG", pnginfo=made_by)
    write_beside(path, data.getvalue())
    return tuple(notes)


def page(cards: Sequence[Image.Image], heading: str, below: str, letters: Letters, wide: int = WIDTH) -> Image.Image:
    """Cards in rows, as many in each as `wide` pixels hold, with a heading above and a sentence below."""
    lines: list[list[Image.Image]] = []
    for one in cards:
        if lines and sum(other.width + PAD for other in lines[-1]) + one.width <= wide - 2 * MARGIN:
            lines[-1].append(one)
        else:
            lines.append([one])
    heights = [max(card.height for card in line) for line in lines]
    room = max([sum(card.width + PAD for card in line) - PAD for line in lines], default=WIDTH // 2)
    head, foot = letters.title.wrap(heading, room, 2), letters.plain.wrap(below, room, 3)
    tall = letters.title.height * len(head) + sum(heights) + PAD * (len(lines) + 2) + letters.plain.height * len(foot)
    sheet = Image.new("RGB", (room + 2 * MARGIN, tall + 2 * MARGIN), PAGE)
    canvas = ImageDraw.Draw(sheet)
    y = MARGIN
    for line in head:
        letters.title.draw(canvas, (MARGIN, y), line, INK)
        y += letters.title.height
    y += PAD
    for row, height in zip(lines, heights, strict=True):
        x = MARGIN
        for picture in row:
            canvas.rectangle((x, y, x + picture.width - 1, y + height - 1), fill=CARD)
            sheet.paste(picture, (x, y))
            x += picture.width + PAD
        y += height + PAD
    for line in foot:
        letters.plain.draw(canvas, (MARGIN, y + PAD), line, PALE)
        y += letters.plain.height
    return sheet
