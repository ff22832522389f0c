"""What was composed of words and pictures, and its pages: HTML by itself, and Markdown with the pictures beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from ..files.png import png_bytes
from ..files.writing import write_whole
from ..language.planning import Step, Verdict
from .page import document, embedded, words

HTML_NAME, MARKDOWN_NAME = "composition.html", "composition.md"


@dataclass(frozen=True, eq=False)
class Part:
    """A step that was carried out.

    picture: of a step that draws or edits. prompt: by which it was made in the end. tries: how many there were.
    verdict: the critic's of the last; None where it was not asked. settings: `Settings.to_dict` of its run.
    """

    step: Step
    picture: Image.Image | None = None
    prompt: str = ""
    tries: int = 1
    verdict: Verdict | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Composition:
    """An answer of words and pictures. model: the name of the one that made it."""

    request: str
    model: str
    parts: tuple[Part, ...]

    @property
    def pictures(self) -> list[Image.Image]:
        """Its pictures in order."""
        return [part.picture for part in self.parts if part.picture is not None]

    def save(self, folder: str | Path) -> Path:
        """Writes it into a new or empty folder: composition.html, a page that loads nothing else, composition.md and
        the pictures as PNGs. Returns the page's path.

        Raises:
            ValueError: it could not be written, or something lies there.
        """
        folder = Path(folder)
        check_folder(folder)
        for name, part in zip(self._names(), (part for part in self.parts if part.picture), strict=True):
            assert part.picture is not None
            write_whole(folder / name, png_bytes(part.picture, self._said(part)), folder)
        write_whole(folder / MARKDOWN_NAME, self.markdown().encode("utf-8", "replace"), folder)
        page = folder / HTML_NAME
        write_whole(page, self.html().encode("utf-8", "replace"), folder)
        return page

    def _names(self) -> list[str]:
        return [f"{number:03}.png" for number in range(1, len(self.pictures) + 1)]

    def _said(self, part: Part) -> dict[str, object]:
        """What a picture's file says of it."""
        asked = {"request": self.request, "step": part.step.text, "prompt": part.prompt, "tries": part.tries}
        return {"command": "compose", "kind": part.step.kind, **asked, **part.settings, "model": self.model}

    def markdown(self) -> str:
        """The Markdown page, which shows the pictures beside it."""
        names, paragraphs = iter(self._names()), [f"# {_plain(' '.join(self.request.split()))}"]
        for part in self.parts:
            if part.picture is None:
                paragraphs.append(_plain(part.step.text))
            else:
                paragraphs.append(f"![{_plain(' '.join(part.prompt.split()))}]({next(names)})")
                paragraphs += [_plain(objection) for objection in _objections(part)]
        return "\n\n".join(paragraphs) + "\n"

    def html(self) -> str:
        """The page with everything inside."""
        note = f"Composed by {self.model} with LightBagel. Words and pictures are a model's."
        return document(self.request, note, "\n".join(map(_section, self.parts)))


def check_folder(folder: Path) -> None:
    """Raises ValueError where nothing can be written into a folder that is there or can be made, or something lies in
    it.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"something lies in {folder}; choose a new or an empty folder")
    place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not place.is_dir():
        raise ValueError(f"{place} is no folder; choose another")
    if not os.access(place, os.W_OK):
        raise ValueError(f"nothing may be written into {place}; choose another folder")


def _section(part: Part) -> str:
    if part.picture is None:
        return f"<section>{words('theirs', part.step.text)}</section>"
    caption = "".join(f'<figcaption dir="auto">{escape(objection)}</figcaption>' for objection in _objections(part))
    return f"<section><figure>{embedded(part.picture, part.prompt)}{caption}</figure></section>"


def _objections(part: Part) -> list[str]:
    """What is to be said of a picture that the critic did not agree to."""
    if part.verdict is None or part.verdict.good:
        return []
    return [
        f"After {part.tries} tries the model did not agree to this picture: {part.verdict.why or 'it gave no reason'}"
    ]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<&#~])", r"\\\1", text)
