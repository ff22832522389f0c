"""Conversations in folders: transcript.json and the pictures beside it, written whole and read with care.

A transcript may come from anybody. So it names pictures in its own folder only, they are PNG files of a bounded size,
and no link leads out of it; what is not as `write_transcript` writes it is refused and nothing of it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ..files.file_names import check_new, is_plain
from ..files.png import png_bytes
from ..files.writing import write_whole
from ..images import read_image
from .entries import Answered, Drawn, Entry, Shown, pictures_of
from .page import page

VERSION = 1
JSON_NAME, PAGE_NAME = "transcript.json", "conversation.html"
LARGEST_JSON = 16 * 2**20  # bytes
LARGEST_PICTURE = 256 * 2**20  # bytes of a file
MOST_PIXELS = 10**9  # of all pictures together, which are 3 GB in memory
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class Transcript:
    """What a folder held. model: the name of the one that the conversation was had with."""

    model: str
    history: int
    entries: tuple[Entry, ...]


def picture_name(number: int, picture: Image.Image) -> str:
    """The name of a conversation's picture, counted from 1: another picture never takes it, as after going back."""
    digest = hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()
    return f"{number:03}-{digest[:12]}.png"


def write_picture(folder: Path, model: str, entries: Sequence[Entry], entry: Shown | Drawn) -> Path:
    """Writes a conversation's picture as PNG, with what it was drawn from in its text, where it is not there yet.

    Raises:
        ValueError: it could not be written.
    """
    number = next(i for i, picture in enumerate(pictures_of(entries), 1) if picture is entry.picture)
    file = folder / picture_name(number, entry.picture)
    if not _regular(file):
        write_whole(file, png_bytes(entry.picture, _said(entry, model)), folder)
    return file


def write_transcript(folder: Path, model: str, history: int, entries: Sequence[Entry], again: bool) -> Path:
    """Writes a conversation into a folder; returns the page's path. Pictures first, what names them last.

    Args:
        again: the conversation in that folder is an earlier state of this one.

    Raises:
        ValueError: it could not be written, or another conversation lies there.
    """
    check_new(folder)
    try:
        there = (folder / JSON_NAME).is_symlink() or (folder / JSON_NAME).exists()
    except OSError as error:
        raise ValueError(f"could not write into {folder}: {error.strerror or error}") from None
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"could not write into {folder}: it is a file; name a folder")
    if there and not again:
        raise ValueError(f"{folder} holds another conversation; save this one into a folder of its own")
    _check_pixels(picture.size for picture in pictures_of(entries))
    names: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry, Answered) and id(entry.picture) not in names:
            names[id(entry.picture)] = write_picture(folder, model, entries, entry).name
    told = {
        "lightbagel_conversation": VERSION,
        "model": model,
        "history": history,
        "entries": [_told(entry, names) for entry in entries],
    }
    write_whole(folder / PAGE_NAME, page(model, entries).encode("utf-8", "replace"), folder)
    write_whole(folder / JSON_NAME, (json.dumps(told, indent=1) + "\n").encode(), folder)
    return folder / PAGE_NAME


def read_transcript(folder: Path) -> Transcript:
    """The conversation that a folder holds.

    Raises:
        ValueError: there is none, it is damaged or of another version, it names a file outside its folder, or a
            picture is missing, damaged or too large.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} to open a conversation from")
    file = folder / JSON_NAME
    raw = _content(file, LARGEST_JSON)
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: it is no JSON ({str(error)[:100]})") from None
    if not isinstance(told, dict) or "lightbagel_conversation" not in told:
        raise ValueError(f"{file} is no transcript of a conversation")
    if told["lightbagel_conversation"] != VERSION:
        raise ValueError(
            f"{file} is a transcript of version {str(told['lightbagel_conversation'])[:20]}, and this reads version "
            f"{VERSION}: open it with the lightbagel that wrote it, or a newer one"
        )
    fields = _fields(told, f"{file}", {"lightbagel_conversation": int, "model": str, "history": int, "entries": list})
    if fields["history"] < 0:
        raise ValueError(f"{file}: its history is {fields['history']}, and must be 0 or more")
    pictures = _Pictures(folder)
    entries = [_entry(one, f"{file}, entry {i}", pictures) for i, one in enumerate(fields["entries"], 1)]
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, Drawn) and entry.edited and not pictures_of(entries[: number - 1]):
            raise ValueError(f"{file}, entry {number} edits a picture, and there is none before it")
    return Transcript(fields["model"], fields["history"], tuple(entries))


class _Pictures:
    """The pictures of a folder by name, each opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: dict[str, Image.Image] = {}

    def open(self, name: str, where: str) -> Image.Image:
        if not is_plain(name) or not name.endswith(".png"):
            raise ValueError(f"{where}: its picture {name[:100]!r} is not the name of a PNG file in the same folder")
        if name not in self.opened:
            file = self.folder / name
            content = _content(file, LARGEST_PICTURE)
            if not content.startswith(PNG):
                raise ValueError(f"{file} is no PNG file")
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", Image.DecompressionBombWarning)
                    with Image.open(BytesIO(content), formats=["PNG"]) as image:  # reads no pixels
                        size = image.size
            except (Image.DecompressionBombError, Image.DecompressionBombWarning):
                raise ValueError(f"{file} has too many pixels for a transcript's picture") from None
            except (OSError, SyntaxError, ValueError):
                raise ValueError(f"{file} is damaged: it cannot be read as PNG") from None
            _check_pixels([size, *(picture.size for picture in self.opened.values())])
            self.opened[name] = read_image(BytesIO(content), str(file))
            self.opened[name].info = {}
        return self.opened[name]


def _check_pixels(sizes: Any) -> None:
    if sum(width * height for width, height in sizes) > MOST_PIXELS:
        raise ValueError(
            f"the conversation's pictures have more than {MOST_PIXELS / 1e6:.0f} million pixels together, which is too "
            "much for a transcript"
        )


def _regular(file: Path) -> bool:
    """Whether there is a file of that name, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(file).st_mode)
    except (OSError, ValueError):
        return False


def _content(file: Path, largest: int) -> bytes:
    """What a file in the folder holds; links are not followed."""
    if not _regular(file):
        what = (
            "is a link or no plain file, and a transcript opens only files of its own"
            if (os.path.lexists(file))
            else "is missing"
        )
        raise ValueError(f"{file} {what}")
    try:
        # Not to be led elsewhere by a link that takes the file's place meanwhile.
        with open(
            os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb"
        ) as opened:
            content = opened.read(largest + 1)
    except OSError as error:
        raise ValueError(f"could not read {file}: {error.strerror or error}") from None
    if len(content) > largest:
        raise ValueError(f"{file} is larger than {largest // 2**20} MiB, which no transcript's file should be")
    return content


def _said(entry: Shown | Drawn, model: str) -> dict[str, Any]:
    """What is written into a picture's file of how it was made; nothing of one that was shown."""
    if isinstance(entry, Shown):
        return {}
    words = {"instruction" if entry.edited else "prompt": entry.text, "negative_prompt": entry.negative_prompt}
    return {"command": "chat", **words, "history": entry.history, **entry.settings, "model": model}


def _told(entry: Entry, names: Mapping[int, str]) -> dict[str, Any]:
    """An entry as JSON holds it."""
    if isinstance(entry, Answered):
        return {"kind": "answered", "question": entry.question, "answer": entry.answer, "cut": entry.cut}
    if isinstance(entry, Shown):
        return {"kind": "shown", "picture": names[id(entry.picture)]}
    return {
        "kind": "drawn",
        "text": entry.text,
        "negative_prompt": entry.negative_prompt,
        "edited": entry.edited,
        "history": entry.history,
        "settings": dict(entry.settings),
        "picture": names[id(entry.picture)],
    }


KINDS: Mapping[str, Mapping[str, type]] = {
    "shown": {"kind": str, "picture": str},
    "drawn": {
        "kind": str, "text": str, "negative_prompt": str, "edited": bool, "history": int, "settings": dict,
        "picture": str,
    },
    "answered": {"kind": str, "question": str, "answer": str, "cut": bool},
}  # fmt: skip
MAKE: Mapping[str, Callable[..., Entry]] = {"shown": Shown, "drawn": Drawn, "answered": Answered}


def _entry(told: Any, where: str, pictures: _Pictures) -> Entry:
    kind = told.get("kind") if isinstance(told, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{where} is neither a picture that was shown or drawn nor an answer")
    fields = _fields(told, where, KINDS[kind])
    del fields["kind"]
    if "picture" in fields:
        fields["picture"] = pictures.open(fields["picture"], where)
    return MAKE[kind](**fields)


def _fields(told: Mapping[str, Any], where: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The fields of an object, which has these and no others, each of its type."""
    for name, kind in kinds.items():
        # True is an int to Python, and no number here.
        if name not in told or not isinstance(told[name], kind) or (kind is int and isinstance(told[name], bool)):
            raise ValueError(
                f"{where} is damaged: its {name!r} is {'no ' + kind.__name__ if name in told else 'missing'}"
            )
    strange = sorted(told.keys() - kinds.keys())
    if strange:
        raise ValueError(f"{where} holds {strange[0][:50]!r}, which a transcript of version {VERSION} does not have")
    return dict(told)
