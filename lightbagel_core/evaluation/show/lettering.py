"""Text in pictures, in whatever language: measured, wrapped and drawn with the first font that has each character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

from .fonts import has, without

# Scripts that are written without spaces: a line may break before and after each of their characters.
_UNSPACED = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_WORD = re.compile(rf"\s|[{_UNSPACED}]|[^\s{_UNSPACED}]+")


class Lettering:
    """Letters of one size from several fonts, the first of which has precedence.

    lacking: characters that none of the fonts has; a question mark is drawn for a stretch of them.
    """

    def __init__(self, fonts: Sequence[Path], size: int, lacking: frozenset[str] = frozenset()) -> None:
        self.lacking = lacking
        self.files = list(fonts)
        self.fonts = [ImageFont.truetype(str(font), size) for font in fonts]
        self.height = round(size * 1.35)  # of a line
        self._length = lru_cache(maxsize=4096)(self._measured)

    def _stretches(self, text: str) -> list[tuple[int, str]]:
        """(index of the font, text) of each stretch that one font has."""

        def font(letter: str) -> int:
            return next((i for i, file in enumerate(self.files) if letter == " " or has(file, letter)), 0)

        return [(index, "".join(letters)) for index, letters in groupby(text, font)]

    def _measured(self, text: str) -> float:
        return sum(self.fonts[index].getlength(part) for index, part in self._stretches(text))

    def length(self, text: str) -> float:
        """The width of a line of text in pixels."""
        return self._length(text)

    def wrap(self, text: str, width: int, most: int) -> list[str]:
        """The text in at most so many lines of at most `width` pixels; an ellipsis ends what did not fit."""
        lines = [""]
        for word in _WORD.findall(without(text, self.lacking)):
            for part in [word] if self.length(word) <= width else list(word):
                if self.length((lines[-1] + part).rstrip()) <= width:
                    lines[-1] += part
                else:
                    lines.append(part)
                lines[-1] = lines[-1].lstrip()
            if len(lines) > most:
                break
        lines = [line.rstrip() for line in lines]
        if len(lines) <= most:
            return [line for line in lines if line]
        last = lines[most - 1]
        while last and self.length(f"{last}…") > width:
            last = last[:-1].rstrip()
        return [*lines[: most - 1], f"{last}…"]

    def draw(self, canvas: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: str) -> None:
        """Draws one line of text, its upper left corner at `place`."""
        x, y = place
        for index, part in self._stretches(text):
            canvas.text((x, y + 0.8 * self.height), part, fill=colour, font=self.fonts[index], anchor="ls")
            x += self.fonts[index].getlength(part)
