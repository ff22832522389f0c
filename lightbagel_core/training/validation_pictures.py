"""The pictures that validation draws: the same prompts and edits with the same noise every time, on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..evaluation.show.fonts import bundled, fonts_for, lacking_note
from ..evaluation.show.lettering import Lettering
from ..evaluation.show.sheet import page
from ..evaluation.show.sheet_card import GAP, INK, LINES, PAD, PALE, Letters, captioned, grey_tile, thumbnail
from ..files.png import png_bytes
from ..files.writing import write_whole
from ..images import open_image
from ..pipeline import LightBagel
from ..world.scenes import render
from ..world.sentence_reader import scene_of_sentence
from .held_out import added
from .stages import Validation

SIDE, WIDE = 384, 1700  # pixels: of a picture's longer side on the sheet; of the sheet, two edits or four prompts wide

Drawn = Image.Image | str  # a picture, or a sentence that says why there is none


@dataclass(frozen=True, eq=False)
class Wish:
    """A prompt, or the instruction of an edit with its source picture, and the seed of its noise."""

    words: str
    seed: int
    source: Image.Image | None = None
    name: str = ""  # of the source, as it was asked for


def wishes_of(asked: Validation, text: Callable[[str], object]) -> list[Wish]:
    """What is to be drawn, looked at before training begins.

    Args:
        text: `LightBagel.text`, which refuses words that the model cannot know.

    Raises:
        ValueError: a source is neither a picture's file nor a sentence of the nano's world, or a text is empty or
            cannot be read; the message names which.
    """
    found = []
    for number, prompt in enumerate(asked.prompts):
        found.append(Wish(_checked(prompt, text, f"validation.prompts[{number}]"), number))
    for number, edit in enumerate(asked.edits):
        where = f"validation.edits[{number}]"
        words = _checked(edit.instruction, text, f"{where}.instruction")
        found.append(Wish(words, len(found), _source(edit.source, f"{where}.source"), edit.source))
    return found


def _checked(words: str, text: Callable[[str], object], where: str) -> str:
    try:
        if not words.strip():
            raise ValueError("it is empty")
        text(words)
    except ValueError as error:
        raise ValueError(f"{where} cannot be drawn: {error}") from None
    return words


def _source(name: str, where: str) -> Image.Image:
    """The picture in a file, or that of the scene which a sentence describes."""
    if Path(name).suffix.lower() in Image.registered_extensions() or Path(name).is_file():
        try:
            return open_image(name)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    try:
        return Image.fromarray(render(scene_of_sentence(name)))
    except ValueError as error:
        raise ValueError(f"{where} is neither a picture's file nor a sentence that can be drawn: {error}") from None


def draw(model: LightBagel, wishes: Sequence[Wish], rank: int = 0, world: int = 1) -> list[Drawn | None]:
    """This process's share of the pictures, and None for those of the others; what fails is a sentence."""
    return [_drawn(model, wish) if number % world == rank else None for number, wish in enumerate(wishes)]


def _drawn(model: LightBagel, wish: Wish) -> Drawn:
    try:
        if wish.source is None:
            (picture,) = model.generate(wish.words, seed=wish.seed, progress=False)
        else:
            (picture,) = model.edit(wish.source, wish.words, seed=wish.seed, progress=False)
    except torch.OutOfMemoryError:
        return "not enough memory to draw this"
    except ValueError as error:
        return str(error).partition(";")[0]  # what follows is advice on a command's options
    return picture


def gathered(drawn: Sequence[Drawn | None]) -> list[Drawn]:
    """The pictures of all processes, on each of them; all of them must ask for it."""
    contents = [_bytes(one) for one in drawn]
    heads = torch.zeros(len(drawn), 3, dtype=torch.int64)  # width, height or 0 for a sentence, bytes
    for number, (one, content) in enumerate(zip(drawn, contents, strict=True)):
        size = one.size if isinstance(one, Image.Image) else (0, 0)
        heads[number] = torch.tensor([*size, len(content)])
    own = torch.frombuffer(bytearray(b"".join(contents) + b"\0"), dtype=torch.uint8)  # torch takes no empty one
    counts, heads = heads[:, 2].tolist(), added(heads)
    ends = heads[:, 2].cumsum(0).tolist()
    every, taken = torch.zeros(ends[-1], dtype=torch.uint8), 0
    for end, count in zip(ends, counts, strict=True):
        every[end - count : end] = own[taken : taken + count]
        taken += count
    whole = added(every).numpy().tobytes()
    found: list[Drawn] = []
    for (width, height, count), end in zip(heads.tolist(), ends, strict=True):
        content = whole[end - count : end]
        found.append(Image.frombytes("RGB", (width, height), content) if width else content.decode())
    return found


def _bytes(one: Drawn | None) -> bytes:
    if isinstance(one, Image.Image):
        return np.asarray(one.convert("RGB")).tobytes()
    return (one or "").encode()


def write_samples(path: Path, wishes: Sequence[Wish], drawn: Sequence[Drawn], step: int, title: str = "") -> None:
    """Writes a PNG with every picture and what was asked for; an edit's source stands before its result.

    Args:
        path: below a folder that is there or can be made; what is there is replaced as a whole.
        step: how many steps the weights were trained for.

    Raises:
        ValueError: the file could not be written, or matplotlib, whose font is used, is not installed.
    """
    heading = f"{title}, step {step:,}" if title else f"step {step:,}"
    said = [one for one in drawn if isinstance(one, str)]
    fonts, lacking = fonts_for("".join([heading, *said, *(wish.words + wish.name for wish in wishes)]))
    bold = [bundled(bold=True), *fonts[1:]]
    letters = Letters(Lettering(bold, 26, lacking), Lettering(bold, 14, lacking), Lettering(fonts, 14, lacking))
    cards = []
    for wish, one in zip(wishes, drawn, strict=True):
        shown = [] if wish.source is None else [thumbnail(wish.source, SIDE)]
        shown.append(grey_tile(one, letters.plain, SIDE) if isinstance(one, str) else thumbnail(one, SIDE))
        below = f"seed {wish.seed}" + (f" · source: {wish.name}" if wish.name else "")
        texts = [(letters.bold, wish.words, INK, LINES), (letters.plain, below, PALE, LINES)]
        cards.append(captioned(shown, texts, len(shown) * (SIDE + GAP) - GAP + 2 * PAD))
    sheet = page(cards, heading, lacking_note(lacking), letters, WIDE)
    asked = [{"words": wish.words, "seed": wish.seed, "source": wish.name or None} for wish in wishes]
    write_whole(path, png_bytes(sheet, {"step": step, "asked": asked}), path.parent)
