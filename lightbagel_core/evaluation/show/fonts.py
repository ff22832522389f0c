"""Fonts for whatever language prompts are in: matplotlib's own, and beside it what the system has."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

MOST = 3  # fonts of the system for one picture
NO_REAL_FONT = ("Last Resort", "Emoji")  # boxes for everything; bitmaps of one size


def bundled(bold: bool = False) -> Path:
    """The font that ships with matplotlib: Latin, Greek, Cyrillic and more, no Chinese.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ValueError("figures and sheets need matplotlib: pip install matplotlib") from None
    return Path(matplotlib.get_data_path(), "fonts", "ttf", f"DejaVuSans{'-Bold' if bold else ''}.ttf")


def fonts_for(text: str) -> tuple[list[Path], frozenset[str]]:
    """(fonts that have a text's characters, matplotlib's own first; the characters that no font of the system has).

    Raises:
        ValueError: matplotlib is not installed.
    """
    fonts = [bundled()]
    left = {ord(letter) for letter in clean(text) if not letter.isspace()} - _characters(fonts[0])
    candidates = _of_system() if left else []
    while left and len(fonts) <= MOST:
        best = max(candidates, key=lambda font: len(left & _characters(font)), default=None)
        if best is None or not left & _characters(best):
            break
        fonts.append(best)
        left -= _characters(best)
    return fonts, frozenset(map(chr, left))


def has(font: Path, letter: str) -> bool:
    """Whether a font has a character."""
    return ord(letter) in _characters(font)


def clean(text: str) -> str:
    """Text on one line, without what has no shape of its own: control characters, joiners, variation selectors."""
    kept = (" " if letter.isspace() else letter for letter in unicodedata.normalize("NFC", text))
    shown = "".join(letter for letter in kept if letter.isprintable() and not "\ufe00" <= letter <= "\ufe0f")
    return " ".join(shown.split())


def without(text: str, lacking: frozenset[str]) -> str:
    """The cleaned text with one question mark for each stretch of characters that no font has."""
    text = clean(text)
    return re.sub(f"[{re.escape(''.join(sorted(lacking)))}]+", "?", text) if lacking else text


def cut(text: str, most: int) -> str:
    """The text, or as much of it as leaves room for an ellipsis in so many characters."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def lacking_note(lacking: frozenset[str]) -> str:
    """Says that characters are shown as question marks; nothing where all could be drawn."""
    if not lacking:
        return ""
    return (
        f"No font on this machine has {len(lacking)} of the characters here ('?' in their place); "
        "install one for their language, for instance Noto Sans CJK."
    )


@lru_cache(maxsize=512)
def _characters(font: Path) -> frozenset[int]:
    """The characters that a font has; none of a file that cannot be read, or only in one size."""
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    try:
        ImageFont.truetype(str(font), 12)
        return frozenset(FT2Font(str(font)).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _of_system() -> list[Path]:
    """The regular fonts that matplotlib found on this system, those without serifs first."""
    from matplotlib.font_manager import fontManager

    plain = [
        font
        for font in fontManager.ttflist
        if font.style == "normal"
        and font.weight in (400, "normal", "regular")
        and not any(word in font.name for word in NO_REAL_FONT)
    ]
    plain.sort(key=lambda font: ("Serif" in font.name or "Mono" in font.name, font.name))
    return list(dict.fromkeys(Path(font.fname) for font in plain))
