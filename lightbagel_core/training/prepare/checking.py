"""One row checked: every picture is decoded whole, and comes out as the bytes of a file that training can open.

A picture that is an upright RGB or grey JPEG, PNG or WebP keeps its bytes; any other becomes a PNG of the RGB picture
that `images.to_rgb` makes of it, so nothing is lost. Of an animation the first frame is taken.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import ExifTags, Image

from ...images import MAX_ASPECT, read_image
from ..data.folder_set import LONGEST
from ..data.store import StoredRow
from .rows import Layout, LeftOut, Picture, Row, Unit

KEPT = {"JPEG", "MPO", "PNG", "WEBP"}  # formats; a phone's JPEG with a second picture behind it is an "MPO"
READ = KEPT | {"AVIF", "BMP", "GIF", "JPEG2000", "PPM", "TIFF"}  # no format for which another program would be started
MARKER = re.compile(r"<\|[a-z_]+\|>|</?tool_call>")  # Qwen2.5-VL's; training would stop at one
SMALLEST = 8  # pixels of the shorter side
ANIMATED, ENCODED, SCALED = "animations, of which the first frame is taken", "encoded anew", "scaled down"


@dataclass(frozen=True, eq=False)
class Checked:
    """What came of a unit, in the order of its rows. counts: of pictures, by what was done to them."""

    found: list[StoredRow | LeftOut]
    counts: Counter[str] = field(default_factory=Counter)


def check_unit(layout: Layout, source: Path, unit: Unit, longest: int = 0) -> Checked:
    """Reads and checks the rows of a unit; what is wrong with one is said, and the next ones follow.

    Args:
        longest: pixels that the longer side of a picture is scaled down to; 0: pictures stay as they are.
    """
    checked = Checked([])
    for row in _rows(layout, source, unit):
        checked.found.append(row if isinstance(row, LeftOut) else check_row(row, checked.counts, longest))
    return checked


def _rows(layout: Layout, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
    number = 0
    try:
        for row in layout.rows(source, unit):
            number += 1
            yield row
    except (ValueError, OSError, LookupError, NotImplementedError) as error:
        key = f"{unit.where.name} {unit.first}-{unit.last}" if unit.last else unit.where.name
        yield LeftOut(key, f"what follows row {number} of this piece cannot be read ({error})")


def check_row(row: Row, counts: Counter[str], longest: int = 0) -> StoredRow | LeftOut:
    """A row as it is stored, or why it is left out."""
    try:
        return _checked(row, counts, longest)
    except _Refused as refused:
        name = refused.picture.name if refused.picture else ""
        return LeftOut(row.key if not name or name in row.key else f"{row.key} ({name})", str(refused))


class _Refused(Exception):
    """Why a row is left out. picture: which one is meant; None: none."""

    def __init__(self, why: str, picture: Picture | None = None) -> None:
        super().__init__(why)
        self.picture = picture


def _checked(row: Row, counts: Counter[str], longest: int) -> StoredRow:
    if not row.targets or len(row.targets) != len(row.texts):
        raise _Refused(f"it has {len(row.texts)} texts for {len(row.targets)} targets")
    if row.repeats < 1:
        raise _Refused(f"it counts {row.repeats} times")
    texts = tuple(text.strip() for text in row.texts)
    told = hashlib.sha256()
    for text in texts:
        if not text:
            raise _Refused("its text is empty")
        if MARKER.search(text):
            raise _Refused("its text holds a marker that the model keeps for itself, such as <|im_end|>")
        try:
            told.update(f"{len(text.encode())} ".encode() + text.encode())
        except UnicodeEncodeError:
            raise _Refused("its text holds characters that are none") from None
    pictures = [
        _picture(picture, role, counts, longest, told)
        for role, some in (("source", row.sources), ("target", row.targets))
        for picture in some
    ]
    sources, targets = pictures[: len(row.sources)], pictures[len(row.sources) :]
    if not sources:
        for (width, height), picture in zip((size for _, size in targets), row.targets, strict=True):
            if max(width, height) > LONGEST * min(width, height):
                raise _Refused(f"a target for text to image is {width}x{height}, longer than {LONGEST:.0f}:1", picture)
    contents, sizes = zip(*pictures, strict=True)
    number = len(sources)
    told.update(f"{number} sources".encode())
    return StoredRow(
        row.key,
        row.kind,
        row.repeats,
        texts,
        sizes[:number],
        sizes[number:],
        told.digest(),
        contents[:number],
        contents[number:],
    )


def _picture(
    picture: Picture, role: str, counts: Counter[str], longest: int, told: hashlib._Hash
) -> tuple[bytes, tuple[int, int]]:
    """The bytes of a picture's file and its size; its pixels go into the digest."""
    try:
        content = picture.read()
        head = _head(content)
        if head is not None and head.format not in READ:
            raise ValueError(f"a {role} is a file of the kind {head.format}; convert it to PNG or JPEG")
        decoded = read_image(io.BytesIO(content), f"a {role}")
    except FileNotFoundError:
        raise _Refused(f"a {role} is missing", picture) from None
    except Exception as error:  # in a damaged file a decoder may stumble over anything; the next rows follow
        raise _Refused(str(error) or type(error).__name__, picture) from None
    width, height = decoded.size
    if min(width, height) < SMALLEST:
        raise _Refused(f"a {role} is {width}x{height}, smaller than {SMALLEST} pixels", picture)
    told.update(f"{role} {width} {height} ".encode())
    told.update(decoded.tobytes())
    if head is not None and head.animated:
        counts[ANIMATED] += 1
    if longest and max(width, height) > longest:
        counts[SCALED] += 1
        decoded.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=None)
        if max(decoded.size) > MAX_ASPECT * min(decoded.size):  # a side that was rounded
            raise _Refused(f"a {role} of {width}x{height} is too narrow to be scaled to {longest}", picture)
    elif head is not None and head.plain:
        return content, decoded.size
    else:
        counts[ENCODED] += 1
    data = io.BytesIO()
    decoded.info.clear()  # a profile of colours that are no longer these
    decoded.save(data, "PNG")
    return data.getvalue(), decoded.size


@dataclass(frozen=True)
class _Head:
    """What a picture's file says before its pixels. plain: its bytes may stay as they are."""

    format: str | None
    animated: bool
    plain: bool


def _head(content: bytes) -> _Head | None:
    """None where it cannot be read; then the picture cannot be, which says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(content)) as image:
                animated = image.format != "MPO" and bool(getattr(image, "is_animated", False))
                turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) != 1
                plain = image.mode in ("RGB", "L") and "transparency" not in image.info
                return _Head(image.format, animated, image.format in KEPT and plain and not animated and not turned)
    except Exception:  # as where it is decoded
        return None
