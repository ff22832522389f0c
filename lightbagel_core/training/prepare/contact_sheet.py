"""A contact sheet of what would be learned from: rows of sources, or of a store, with their texts."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from PIL import Image

from ...evaluation.show.fonts import bundled, fonts_for, lacking_note
from ...evaluation.show.lettering import Lettering
from ...evaluation.show.sheet import page
from ...evaluation.show.sheet_card import GAP, INK, LINES, PAD, PALE, THUMB, WRONG, Letters, captioned, grey_tile
from ...evaluation.show.sheet_card import thumbnail as small
from ...files.png import png_bytes
from ...files.writing import write_beside
from ...images import read_image
from ..data.store import FILE, Store, StoredRow
from .checking import check_row
from .rows import Layout, LeftOut, Row

SHOWN = 24  # rows
PICTURES = 6  # of a row


def write_look(file: Path, sources: Sequence[tuple[Path, Layout | None]]) -> int:
    """Writes a PNG with some rows of each source, spread over it; returns how many.

    Args:
        sources: a folder or file and its layout, or a store and None.

    Raises:
        ValueError: a source cannot be read, holds nothing, or the sheet cannot be written.
    """
    each = max(1, SHOWN // len(sources))
    rows: list[StoredRow | LeftOut] = []
    for path, layout in sources:
        rows += _of_store(path, each) if layout is None else _of_source(path, layout, each)
    if not rows:
        raise ValueError(f"there are no rows to look at in {', '.join(str(path) for path, _ in sources)}")
    heading = f"{', '.join(path.resolve().name for path, _ in sources)}: {len(rows)} rows"
    texts = [
        text for row in rows for text in ([row.key, row.why] if isinstance(row, LeftOut) else [*row.texts, row.key])
    ]
    kinds = [row.kind for row in rows if isinstance(row, StoredRow)]
    fonts, lacking = fonts_for("".join([heading, *texts, *kinds]))
    bold = [bundled(bold=True), *fonts[1:]]
    letters = Letters(Lettering(bold, 26, lacking), Lettering(bold, 14, lacking), Lettering(fonts, 14, lacking))
    sheet = page([_card(row, letters) for row in rows], heading, lacking_note(lacking), letters)
    write_beside(file, png_bytes(sheet, {"rows": [row.key for row in rows]}))
    return len(rows)


def is_store(path: Path) -> bool:
    return (path / FILE).is_file()


def _of_store(folder: Path, most: int) -> Iterator[StoredRow]:
    store = Store(folder)
    shown = min(most, store.count)
    for number in range(shown):
        yield store.row(number * store.count // shown)


def _of_source(source: Path, layout: Layout, most: int) -> Iterator[StoredRow | LeftOut]:
    """Of pieces spread over the source as many rows each as it takes; those that are left out are shown as such."""
    units = layout.units(source)
    pieces = min(most, len(units))
    for number in range(pieces):
        here = most * (number + 1) // pieces - most * number // pieces
        for row in islice(layout.rows(source, units[number * len(units) // pieces]), here):
            yield check_row(row, Counter()) if isinstance(row, Row) else row


def _card(row: StoredRow | LeftOut, letters: Letters) -> Image.Image:
    """A row's pictures in their order, an edit's sources before its results, above its texts."""
    if isinstance(row, LeftOut):
        tile = grey_tile("left out", letters.plain)
        return captioned([tile], [(letters.plain, row.why, WRONG, LINES), (letters.plain, row.key, PALE, 2)], _wide(2))
    contents = [*row.sources, *row.targets]
    shown = [small(read_image(io.BytesIO(content), row.key)) for content in contents[:PICTURES]]
    if len(contents) > PICTURES:
        shown[-1] = grey_tile(f"and {len(contents) - PICTURES + 1} more pictures", letters.plain)
    words = [(letters.bold, text, INK, LINES) for text in row.texts]
    sizes = ", ".join(f"{width}x{height}" for width, height in (*row.source_sizes, *row.target_sizes))
    below = " · ".join(filter(None, [row.kind, f"counts {row.repeats} times" * (row.repeats > 1), sizes, row.key]))
    return captioned(shown, [*words, (letters.plain, below, PALE, 2)], _wide(max(2, len(shown))))


def _wide(pictures: int) -> int:
    return pictures * (THUMB + GAP) - GAP + 2 * PAD
