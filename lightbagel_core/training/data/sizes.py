"""The sizes of a folder's pictures, from their heads. They are kept in the folder: where there are many pictures, to
open each takes long, and every process of every run would do it again.
"""

from __future__ import annotations

import json
import struct
import warnings
from contextlib import suppress
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from ...files.writing import write_whole
from ...images import MAX_ASPECT

FILE = ".sizes.json"  # per picture: bytes, time of its last change, width, height


class Sizes:
    """
    Args:
        folder: of the pictures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, list[int]] = _read(folder / FILE)
        self.changed = False

    def of(self, path: Path) -> tuple[int, int]:
        """(width, height) of a picture in the folder or below it, as `open_image` gives it.

        Raises:
            ValueError: `open_image` would refuse it; the message names the file.
        """
        name, about = path.relative_to(self.folder).as_posix(), path.stat()
        stamp = [about.st_size, about.st_mtime_ns]
        if name not in self.known or self.known[name][:2] != stamp:
            self.known[name] = [*stamp, *measured(path)]
            self.changed = True
        width, height = self.known[name][2:]
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ValueError(f"{path} is {width}x{height}, longer than {MAX_ASPECT:.0f}:1; crop it")
        return width, height

    def keep(self) -> None:
        """Writes what is new; a folder that cannot be written to goes without."""
        if self.changed:
            with suppress(ValueError):
                content = json.dumps(self.known, separators=(",", ":")).encode()
                write_whole(self.folder / FILE, content, self.folder)
        self.changed = False


def _read(file: Path) -> dict[str, list[int]]:
    try:
        found = json.loads(file.read_text("utf-8"))
        return {str(name): [int(x) for x in held] for name, held in found.items() if len(held) == 4}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def measured(path: Path) -> tuple[int, int]:
    """(width, height) of a picture, upright as its EXIF says, from its file's head alone.

    Raises:
        ValueError: it is no picture, damaged, or too large; the message names the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                exif = Image.Image.getexif(image)  # a PNG's own would decode all of it to look behind its pixels
                turned = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
                return (image.height, image.width) if turned else image.size
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image this can read; convert it to PNG or JPEG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{path} has too many pixels; scale it down first") from None
    except (OSError, SyntaxError, EOFError, struct.error) as error:
        raise ValueError(f"{path} is damaged ({error}); save it again or use another file") from None
