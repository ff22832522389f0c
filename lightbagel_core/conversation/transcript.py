"""Conversations in folders: transcript.json and the pictures beside it, written whole and read with care.

A transcript may come from anybody. So it names pictures in its own folder only, they are PNG files of a bounded size,
and no link leads out of it; what is not as `write_transcript` writes it is refused and nothing of it is used.
"""

from __future__ import annotations

import hashlib
import json
import numbers
import os
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
MOST_SETTINGS, LONGEST_SETTING = 64, 100  # those of a drawing; characters of a name and a text, numbers of a list
MOST_PIXELS = 10**9  # of all pictures together, which are 3 GB in memory
PNG = b"\x89PNG\r\n\x1a\n"
TOO_MANY_PIXELS = "has too many pixels for a transcript's picture"
OpenPicture = Callable[[str, str], Image.Image]  # by its name; the other text says where that stands


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
        ValueError: it could not be written, or `read_transcript` would refuse it.
    """
    file, content = _as_file(folder, model, entries, entry)
    if content is not None:
        write_whole(file, content, folder)
    return file


def _as_file(folder: Path, model: str, entries: Sequence[Entry], entry: Shown | Drawn) -> tuple[Path, bytes | None]:
    """A picture's file, and what is to be written into it; None where it is there."""
    number = next(i for i, picture in enumerate(pictures_of(entries), 1) if picture is entry.picture)
    file = folder / picture_name(number, entry.picture)
    if _regular(file):
        return file, None
    _check_pixels([entry.picture.size], f"{file}")
    content = png_bytes(entry.picture, _said(entry, model))
    _check_bytes(len(content), LARGEST_PICTURE, file)
    return file, content


def write_transcript(folder: Path, model: str, history: int, entries: Sequence[Entry], again: bool) -> Path:
    """Writes a conversation into a folder; returns the page's path. Pictures first, what names them last; nothing where
    `read_transcript` would refuse it.

    Args:
        again: the conversation in that folder is an earlier state of this one.

    Raises:
        ValueError: it could not be written, another conversation or somebody's page lies there, or it is too large.
    """
    check_new(folder)
    file, page_file = folder / JSON_NAME, folder / PAGE_NAME
    try:
        # Resolved, since of a/../b the system sees nothing until a is made.
        lie = [(folder.resolve() / name) for name in (JSON_NAME, PAGE_NAME)]
        there, page_there = (each.is_symlink() or each.exists() for each in lie)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"could not write into {folder}: {getattr(error, 'strerror', None) or error}") from None
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"could not write into {folder}: it is a file; name a folder")
    if there and not again:
        raise ValueError(f"{folder} holds another conversation; save this one into a folder of its own")
    if page_there and not again:
        raise ValueError(
            f"{folder} holds a {PAGE_NAME} that is no conversation's, and it would be replaced; choose another folder"
        )
    distinct = {id(picture): picture for picture in pictures_of(entries)}
    _check_pixels([picture.size for picture in distinct.values()], f"{file}")
    files: dict[int, tuple[Path, bytes | None]] = {}
    for entry in entries:
        if not isinstance(entry, Answered) and id(entry.picture) not in files:
            files[id(entry.picture)] = _as_file(folder, model, entries, entry)
    told = {
        "lightbagel_conversation": VERSION,
        "model": model,
        "history": history,
        "entries": [_told(entry, {key: each.name for key, (each, _) in files.items()}) for entry in entries],
    }
    raw = (json.dumps(told, indent=1) + "\n").encode()
    _check_bytes(len(raw), LARGEST_JSON, file)
    named = {each.name: distinct[key] for key, (each, _) in files.items()}
    _read(raw, file, lambda name, where: named[name])
    for picture, content in files.values():
        if content is not None:
            write_whole(picture, content, folder)
    write_whole(page_file, page(model, entries).encode("utf-8", "replace"), folder)
    try:
        write_whole(file, raw, folder)
    except BaseException:
        if not page_there:
            with suppress(OSError):
                page_file.unlink()  # which the next try would take for somebody else's
        raise
    return page_file


def read_transcript(folder: Path) -> Transcript:
    """The conversation that a folder holds.

    Raises:
        ValueError: there is none, it is damaged or of another version, it names a file outside its folder, or a
            picture is missing, damaged or too large.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} to open a conversation from")
    file = folder / JSON_NAME
    return _read(_content(file, LARGEST_JSON), file, _Pictures(folder).open)


def _read(raw: bytes, file: Path, open_picture: OpenPicture) -> Transcript:
    """What a transcript.json of these bytes tells."""
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: it is no JSON ({str(error)[:100]})") from None
    if not isinstance(told, dict) or "lightbagel_conversation" not in told:
        raise ValueError(f"{file} is no transcript of a conversation")
    version = told["lightbagel_conversation"]
    if version != VERSION:
        said = repr(version[:20] if isinstance(version, str) else version if isinstance(version, int) else "?")
        raise ValueError(
            f"{file} is a transcript of version {said[:22]}, and this reads version {VERSION}: open it with the "
            "lightbagel that wrote it, or a newer one"
        )
    fields = _fields(told, f"{file}", {"lightbagel_conversation": int, "model": str, "history": int, "entries": list})
    if fields["history"] < 0:
        raise ValueError(f"{file}: its history is {fields['history']}, and must be 0 or more")
    entries = [_entry(one, f"{file}, entry {i}", open_picture) for i, one in enumerate(fields["entries"], 1)]
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
                raise ValueError(f"{file} {TOO_MANY_PIXELS}") from None
            except (OSError, SyntaxError, ValueError):
                raise ValueError(f"{file} is damaged: it cannot be read as PNG") from None
            _check_pixels([size, *(picture.size for picture in self.opened.values())], f"{file}")
            self.opened[name] = read_image(BytesIO(content), str(file))
            self.opened[name].info = {}
        return self.opened[name]


def _check_pixels(sizes: Sequence[tuple[int, int]], file: str) -> None:
    """Refuses pictures that are too large for a transcript, each by itself as PIL does or all together."""
    if any(width * height > (Image.MAX_IMAGE_PIXELS or MOST_PIXELS) for width, height in sizes):
        raise ValueError(f"{file} {TOO_MANY_PIXELS}")
    if sum(width * height for width, height in sizes) > MOST_PIXELS:
        raise ValueError(
            f"the conversation's pictures have more than {MOST_PIXELS / 1e6:.0f} million pixels together, which is too "
            "much for a transcript"
        )


def _check_bytes(count: int, most: int, file: Path) -> None:
    if count > most:
        raise ValueError(f"{file} is larger than {most // 2**20} MiB, which no transcript's file should be")


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
    _check_bytes(len(content), largest, file)
    return content


def _said(entry: Shown | Drawn, model: str) -> dict[str, Any]:
    """What is written into a picture's file of how it was made; nothing of one that was shown."""
    if isinstance(entry, Shown):
        return {}
    words = {"instruction" if entry.edited else "prompt": entry.text, "negative_prompt": entry.negative_prompt}
    return {"command": "chat", **words, "history": entry.history, **_plain(entry.settings), "model": model}


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
        "settings": _plain(entry.settings),
        "picture": names[id(entry.picture)],
    }


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON holds them: numbers of numpy and torch, which count as numbers elsewhere, as Python's.

    Raises:
        ValueError: as `_check_settings`.
    """
    plain = {
        name: [_number(each) for each in value] if isinstance(value, tuple | list) else _number(value)
        for name, value in settings.items()
    }
    _check_settings(plain, "a drawing")
    return plain


def _number(value: Any) -> Any:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else value


def _check_settings(settings: Mapping[str, Any], where: str) -> None:
    """Refuses settings that are no names with a number, a text, true, false or null, or a list of numbers."""
    if len(settings) > MOST_SETTINGS:
        raise ValueError(f"{where} has {len(settings)} settings, and at most {MOST_SETTINGS} make sense")
    for name, value in settings.items():
        listed = isinstance(value, list) and all(isinstance(each, int | float) for each in value)
        if len(name) > LONGEST_SETTING or not (listed or value is None or isinstance(value, str | int | float)):
            raise ValueError(f"{where} has a setting {name[:50]!r} that is no number, text or list of numbers")
        if isinstance(value, str | list) and len(value) > LONGEST_SETTING:
            raise ValueError(f"{where} has a setting {name[:50]!r} that is longer than {LONGEST_SETTING}")


KINDS: Mapping[str, Mapping[str, type]] = {
    "shown": {"kind": str, "picture": str},
    "drawn": {
        "kind": str, "text": str, "negative_prompt": str, "edited": bool, "history": int, "settings": dict,
        "picture": str,
    },
    "answered": {"kind": str, "question": str, "answer": str, "cut": bool},
}  # fmt: skip
MAKE: Mapping[str, Callable[..., Entry]] = {"shown": Shown, "drawn": Drawn, "answered": Answered}


def _entry(told: Any, where: str, open_picture: OpenPicture) -> Entry:
    kind = told.get("kind") if isinstance(told, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{where} is neither a picture that was shown or drawn nor an answer")
    fields = _fields(told, where, KINDS[kind])
    del fields["kind"]
    if "picture" in fields:
        fields["picture"] = open_picture(fields["picture"], where)
    if kind == "drawn":
        _check_settings(fields["settings"], where)
        if fields["history"] < 0 or (fields["history"] and not fields["edited"]):
            raise ValueError(
                f"{where}: its history is {fields['history']}, and must be 0"
                + (" or more" if fields["edited"] else " where a prompt alone is drawn")
            )
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
