"""Draws a batch of a bench's items into the layout that its official scorer reads.

The noise of a picture follows from its item alone. A batch of which a picture is lacking is drawn again as a whole, so
that each picture comes from the batch it always comes from; what is there stays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image

from ...files.png import png_bytes
from ...files.writing import write_whole
from ...model.forward import Content
from ...pipeline import LightBagel
from ...sampling.branches import Said, branches_of
from ...sampling.settings import Asked, Settings
from ..items import Item
from .presets import Drawing

NOT_DRAWN = PurePosixPath("not-drawn")  # the folder, below the output folder, that says of each lacking item why


@dataclass
class Row:
    """One picture on its way through the turns of its item. turns: how many of them can be drawn."""

    item: Item
    sample: int
    sources: list[Image.Image]
    turns: int
    drawn: list[Image.Image] = field(default_factory=list)

    def seen(self, turn: int | None = None) -> list[Image.Image]:
        """The pictures that a turn edits; default: the next one."""
        turn = len(self.drawn) if turn is None else turn
        return self.drawn[turn - 1 : turn] if turn else self.sources


def seed_of(bench: str, item: str, sample: int, turn: int = 0, seed: int = 0) -> int:
    """The seed of one picture's noise, 0 to 2^63 - 1: a hash, the same on every machine."""
    digest = hashlib.sha256(json.dumps([bench, item, sample, turn, seed]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def note_of(item: Item) -> PurePosixPath:
    """The file, below the output folder, that says why an item lacks pictures."""
    return NOT_DRAWN / item.files[0][0].with_suffix(".txt")


def is_there(item: Item, out: Path, turns: int | None = None) -> bool:
    """Whether the files of an item, or of its first turns, are in the output folder."""
    return all(is_whole(out / file) for files in (*item.files[:turns], item.beside) for file in files)


def is_whole(file: Path) -> bool:
    """Whether a file is there and holds something: one without content was left by a crash of the system."""
    return file.is_file() and file.stat().st_size > 0


def check_settings(model: LightBagel, drawing: Drawing, editing: bool) -> tuple[int, int]:
    """The size of a picture under some settings, an edit's of a square source, before anything is written.

    Raises:
        ValueError: a setting outside its range, or a negative prompt whose words the model does not know.
    """
    drawer = Drawer(model, "", Path(), drawing, Path())
    settings = drawer.settings(Image.new("RGB", (512, 512)) if editing else None)
    return settings.width, settings.height


class Drawer:
    """Draws the batches of one bench with one model."""

    def __init__(self, model: LightBagel, bench: str, out: Path, drawing: Drawing, scratch: Path) -> None:
        """`scratch` is a folder on the disk of `out` that no other process uses: files lie in it until they are whole.

        Raises:
            ValueError: the negative prompt has words that the model does not know.
        """
        self.model, self.bench, self.out, self.drawing, self.scratch = model, bench, out, drawing, scratch
        try:
            self.negative = model.text(drawing.negative)
        except ValueError as error:
            raise ValueError(f"the negative prompt cannot be used: {error}") from None
        self.seed = int(drawing.asked["seed"])  # type: ignore[arg-type]
        self.missing: dict[str, str] = {}
        self.loras = model.loras

    def settings(self, source: Image.Image | None) -> Settings:
        """The settings of a picture with or without a source."""
        asked: dict[str, Any] = dict(self.drawing.asked)
        if source is None:
            asked.pop("image_guidance", None)
        return self.model.settings(source, **Asked(**asked))  # type: ignore[typeddict-item]

    def batch(self, items: Sequence[Item]) -> int:
        """Draws a batch and writes what of it is lacking; gives the number of pictures written."""
        rows: list[Row] = []
        beside: dict[str, dict[PurePosixPath, bytes]] = {}
        for item in items:
            try:
                beside[item.id] = {file: make() for file, make in item.beside.items()}
                sources = [source.open() for source in item.sources]
            except ValueError as error:
                self.not_drawn(item, error)
                continue
            if turns := self.sayable(item):
                rows += [Row(item, sample, sources, turns) for sample in range(self.drawing.samples)]
        if all(is_there(row.item, self.out, row.turns) for row in rows):
            return 0
        for turn in range(max(row.turns for row in rows)):
            for group in self.alike([row for row in rows if row.turns > turn]):
                self.draw(group, turn)
        return sum(self.write([row for row in rows if row.item.id == name], files) for name, files in beside.items())

    def sayable(self, item: Item) -> int:
        """How many turns of an item the model has words for, from the first on."""
        for number, turn in enumerate(item.turns):
            try:
                self.model.text(turn)
            except ValueError as error:
                self.not_drawn(item, error)
                return number
        return len(item.turns)

    def note(self, item: Item) -> Path:
        """The file that says why an item, or a turn of it, has no pictures."""
        return self.out / note_of(item)

    def not_drawn(self, item: Item, error: ValueError) -> None:
        """Notes why an item lacks pictures; the others go on."""
        self.missing[item.id] = " ".join(str(error).split())
        write_whole(self.note(item), self.missing[item.id].encode() + b"\n", self.scratch)

    def alike(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Rows that can be drawn together: of one size, with as many sources, no more than a batch."""
        groups: dict[Any, list[Row]] = {}
        for row in rows:
            seen = row.seen()
            try:
                settings = self.settings(seen[0] if seen else None)
            except ValueError as error:
                self.stop(row, error)
                continue
            groups.setdefault((settings.width, settings.height, len(seen)), []).append(row)
        for group in groups.values():
            size = self.drawing.batch
            yield from (group[start : start + size] for start in range(0, len(group), size))

    def stop(self, row: Row, error: ValueError) -> None:
        """Ends a row at the turn that could not be drawn."""
        row.turns = len(row.drawn)
        self.not_drawn(row.item, error)

    def draw(self, rows: Sequence[Row], turn: int) -> None:
        """Draws one turn of rows that are alike."""
        model, first = self.model, max(0, turn - self.drawing.history)
        settings = self.settings(next(iter(rows[0].seen(turn)), None))
        try:
            texts = {words: model.text(words) for row in rows for words in row.item.turns[first : turn + 1]}
            contents = [self.sources([row.seen(number) for row in rows]) for number in range(first, turn + 1)]
            branches: dict[str, list[list[Content]]] = {}
            for row, *pictures in zip(rows, *contents, strict=True):
                *before, now = [texts[words] for words in row.item.turns[first : turn + 1]]
                history = [Said(*each) for each in zip(pictures, before, strict=False)]
                for name, contents_of in branches_of(pictures[-1], now, self.negative, history).items():
                    branches.setdefault(name, []).append(contents_of)
            seeds = [seed_of(self.bench, row.item.id, row.sample, turn, self.seed) for row in rows]
            noise = torch.cat([model.noise(1, settings.width, settings.height, seed) for seed in seeds])
            pictures = model.draw(
                branches,
                noise,
                settings.guidance,
                steps=settings.steps,
                solver=settings.solver,
                shift=settings.shift,
                progress=False,
            )
        except ValueError as error:
            for row in rows:
                self.stop(row, error)
            return
        for row, picture in zip(rows, pictures, strict=True):
            row.drawn.append(picture)

    def sources(self, seen: Sequence[Sequence[Image.Image]]) -> list[list[Content]]:
        """What each row's sources give to its sequence; all of one kind first, so that each component comes once."""
        kinds, model = self.drawing.source_tokens, self.model
        distinct = {id(image): image for images in seen for image in images}
        clean = {key: model.clean(image) for key, image in distinct.items() if "vae" in kinds}
        vit = {key: model.vit(image) for key, image in distinct.items() if "vit" in kinds}
        return [[kind[id(i)] for i in images for kind in (clean, vit) if id(i) in kind] for images in seen]

    def write(self, rows: Sequence[Row], beside: dict[PurePosixPath, bytes]) -> int:
        """Writes the pictures of an item's rows that are lacking, and what lies beside them."""
        written = 0
        if not rows:
            return 0
        item = rows[0].item
        for file, content in beside.items():
            if not is_whole(self.out / file):
                write_whole(self.out / file, content, self.scratch)
        for turn, files in enumerate(item.files[: min(row.turns for row in rows)]):
            pictures = [row.drawn[turn] for row in rows]
            shown = [grid(pictures)] if item.grid else pictures
            for sample, (file, picture) in enumerate(zip(files, shown, strict=True)):
                if not is_whole(self.out / file):
                    write_whole(self.out / file, png_bytes(picture, self.about(item, turn, sample)), self.scratch)
                    written += len(pictures) // len(shown)
        if item.id not in self.missing:
            with suppress(NotADirectoryError):
                self.note(item).unlink(missing_ok=True)
        return written

    def about(self, item: Item, turn: int, sample: int) -> dict[str, Any]:
        """What a picture's file says of it."""
        words = {"bench": self.bench, "item": item.id, "turn": turn, "sample": sample, "prompt": item.turns[turn]}
        drawer = {"model": self.model.config.name} | ({"loras": self.loras} if self.loras else {})
        asked = {name: value for name, value in self.drawing.asked.items() if value is not None}
        return {**words, "negative_prompt": self.drawing.negative, **drawer, **asked}


def grid(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size in one, two in a row."""
    width, height = pictures[0].size
    whole = Image.new("RGB", (2 * width, -(-len(pictures) // 2) * height))
    for i, picture in enumerate(pictures):
        whole.paste(picture, (i % 2 * width, i // 2 * height))
    return whole
