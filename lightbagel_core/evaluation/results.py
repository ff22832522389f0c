"""What the judged benches share: pictures for a judge, files of results, and what the worst items were."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image

from ..images import open_image
from .items import Item
from .scores import Worst
from .writing import write_whole

WORST = 24  # items for the contact sheet


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

    Sources that lie elsewhere than in the output folder are named by the way from there.
    """
    lowest = sorted((outcome for outcome in outcomes if outcome.value < best), key=lambda outcome: outcome.value)
    return tuple(
        Worst(one.item.id, one.item.turns[0], one.value, _pictures(one.item, out), one.reason) for one in lowest[:WORST]
    )


def _pictures(item: Item, out: Path) -> tuple[str, ...]:
    sources = [str(file) for file in item.beside if file.suffix == ".png"]
    for source in item.sources:
        if source.file:
            try:
                sources.append(Path(os.path.relpath(source.file, out)).as_posix())
            except ValueError:  # it lies on another drive
                continue
    return (*sources, str(item.files[0][0]))


def left_out(file: Path, sentences: Sequence[str]) -> list[str]:
    """A note that says how much of a file was not used, and why the first of it was not; none where all was."""
    return [f"Of {file.name} was not used: {len(sentences):,} entries. The first: {sentences[0]}"] if sentences else []
