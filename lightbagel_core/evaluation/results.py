"""What the judged benches share: pictures for a judge, files of results, and what the worst items were."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image

from ..files.writing import write_whole
from ..images import open_image
from .items import Item, Source
from .scores import WORST, Worst

SMALL = "worst"  # below the output folder: small copies of the sources of these items that lie elsewhere
SIDE = 384  # pixels: the longest side of a small copy
_COPY = re.compile(r"[0-9a-f]{32}\.png")


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG that holds nothing but its pixels."""
    buffer = BytesIO()
    Image.frombytes(picture.mode, picture.size, picture.tobytes()).save(buffer, "PNG")
    return buffer.getvalue()


def png_of(opened: Callable[[], Image.Image]) -> Callable[[], bytes]:
    """What makes the PNG of a picture when it is needed; it raises the ValueError of one that cannot be read."""
    return lambda: png(opened())


def drawn(out: Path, item: Item) -> Callable[[], Image.Image]:
    """What opens the picture of an item that has one."""
    return partial(open_image, out / item.files[0][0])


def is_drawn(out: Path, item: Item) -> bool:
    """Whether the picture of an item that has one is there."""
    return (out / item.files[0][0]).is_file()


def write_text(file: Path, text: str) -> None:
    """Writes a file of results whole, or not at all.

    Raises:
        ValueError: it cannot be written, for instance because the disk is full.
    """
    write_whole(file, text.encode("utf-8"), file.parent)


@dataclass(frozen=True)
class Outcome:
    """What became of one item. value: its score. lost: why it has the lowest one, where no judge gave it."""

    item: Item
    value: float
    reason: str
    lost: Literal["", "missing", "refused"] = ""


def worst(outcomes: Iterable[Outcome], best: float, out: Path) -> tuple[Worst, ...]:
    """The items for the contact sheet: the lowest scores first, none of the best.

    A sheet shows only what lies in the output folder, so that no file of scores can make it show any other picture of
    the machine. Of sources that lie elsewhere, small copies are written into the folder `SMALL` there; those of an
    earlier scoring are removed.

    Raises:
        ValueError: a copy cannot be written, for instance because the disk is full.
    """
    lowest = sorted((outcome for outcome in outcomes if outcome.value < best), key=lambda outcome: outcome.value)
    rows = tuple(
        Worst(one.item.id, one.item.turns[0], one.value, _pictures(one.item, out), one.reason) for one in lowest[:WORST]
    )
    named = {picture for row in rows for picture in row.pictures}
    for copy in (out / SMALL).glob("*.png"):
        if _COPY.fullmatch(copy.name) and f"{SMALL}/{copy.name}" not in named:
            with suppress(OSError):
                copy.unlink()
    return rows


def _pictures(item: Item, out: Path) -> tuple[str, ...]:
    """An item's sources and its picture, as paths below the output folder."""
    sources = [str(file) for file in item.beside if file.suffix == ".png"]
    for source in item.sources:
        if source.file is None:
            continue
        if source.file.resolve().is_relative_to(out.resolve()):
            sources.append(source.file.resolve().relative_to(out.resolve()).as_posix())
        elif small := _small_copy(source, out):
            sources.append(small)
    return (*sources, str(item.files[0][0]))


def _small_copy(source: Source, out: Path) -> str:
    """Where the small copy of a source lies that it writes; nowhere when the source cannot be read."""
    try:
        picture = source.open()
    except ValueError:
        return ""
    picture.thumbnail((SIDE, SIDE))
    content = png(picture)
    name = f"{SMALL}/{sha256(content).hexdigest()[:32]}.png"
    write_whole(out / name, content, out / SMALL)
    return name


def left_out(file: Path, sentences: Sequence[str]) -> list[str]:
    """A note that says how much of a file was not used, and why the first of it was not; none where all was."""
    return [f"Of {file.name} was not used: {len(sentences):,} entries. The first: {sentences[0]}"] if sentences else []
