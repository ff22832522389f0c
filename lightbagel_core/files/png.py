"""Pictures to PNG files that keep their settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def png_bytes(picture: Image, settings: Mapping[str, Any]) -> bytes:
    """A PNG file's content, with its settings, if there are any, as JSON in the text chunk "lightbagel"."""
    from PIL.PngImagePlugin import PngInfo

    text, content = PngInfo(), BytesIO()
    if settings:
        text.add_text("lightbagel", json.dumps(settings))
    picture.save(content, "PNG", pnginfo=text)
    return content.getvalue()


def write_pngs(pictures: Sequence[Image], paths: Sequence[Path], settings: dict[str, Any]) -> None:
    """Writes PNGs with their settings as JSON in the text chunk "lightbagel": all of them whole, or none.

    Raises:
        ValueError: they could not be written, for instance because the disk is full.
    """
    partials: list[Path] = []
    try:
        for index, (picture, path) in enumerate(zip(pictures, paths, strict=True)):
            partials.append(path.with_name(f".{path.name}.{os.getpid()}.partial"))
            with open(partials[-1], "wb") as file:
                file.write(png_bytes(picture, {**settings, "index": index}))
                file.flush()
                os.fsync(file.fileno())
        for partial, path in zip(partials, paths, strict=True):
            os.replace(partial, path)
    except OSError as error:
        hint = "; close what has it open, or choose another name" if isinstance(error, PermissionError) else ""
        raise ValueError(f"could not write {path}: {error.strerror or error}{hint}") from None
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)
