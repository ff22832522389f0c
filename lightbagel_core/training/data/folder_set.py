"""A folder as a set of examples: `x.png` and `x.txt` beside it; an edit has its sources in `sources/`.

cat.jpg  cat.txt                                       text to image
hat.png  hat.txt  sources/hat.png                      an edit
two.png  two.txt  sources/two_0.png  sources/two_1.png an edit of two pictures

What cannot be learned from is found when the set is opened, from the files' heads, and not after days of training: a
picture that cannot be opened, and one for text to image that is longer than the paper's own.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ...images import open_image
from .example import Example, Shape, Turn, words
from .sizes import Sizes

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
SOURCES = "sources"
LISTED = 20  # problems that a message names
LONGEST = 4.0  # of a picture for text to image, as the authors have it


class FolderSet:
    """
    left_out: of each example that is not learned from, why.

    Raises:
        ValueError: there is no such folder, it is incomplete, or nothing of it can be learned from; the message lists
            what is wrong with it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"there is no folder {self.folder}")
        problems: list[str] = []
        self.targets = list(_pictures(self.folder, problems).values())
        self.texts = [_text(target.with_suffix(".txt"), problems) for target in self.targets]
        self.sources = self._sources(problems)
        if not self.targets and not problems:
            problems.append("it holds no pictures (.png, .jpg, .webp)")
        self._refuse(problems)
        self.left_out: list[str] = []
        self.shapes = self._measured()
        if not self.targets:
            self._refuse(self.left_out)

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            more = [f"and {len(problems) - LISTED} more"] if len(problems) > LISTED else []
            raise ValueError(f"{self.folder} cannot be learned from: " + "; ".join(problems[:LISTED] + more))

    def _measured(self) -> list[Shape]:
        """The shapes of the examples that can be learned from; the others are left out."""
        sizes = Sizes(self.folder)
        kept: list[int] = []
        shapes: list[Shape] = []
        for number, (target, text, sources) in enumerate(zip(self.targets, self.texts, self.sources, strict=True)):
            try:
                shape = Shape(tuple(map(sizes.of, sources)), (sizes.of(target),), (words(text),))
            except (ValueError, OSError) as error:
                self.left_out.append(str(error))
                continue
            width, height = shape.targets[0]
            if not sources and max(width, height) > LONGEST * min(width, height):
                self.left_out.append(f"{target} is {width}x{height}, longer than {LONGEST:.0f}:1, for text to image")
                continue
            kept.append(number)
            shapes.append(shape)
        sizes.keep()
        self.targets = [self.targets[number] for number in kept]
        self.texts = [self.texts[number] for number in kept]
        self.sources = [self.sources[number] for number in kept]
        return shapes

    def _sources(self, problems: list[str]) -> list[tuple[Path, ...]]:
        """The sources of each target, in the order of their numbers."""
        beside = self.folder / SOURCES
        stems = {target.stem for target in self.targets}
        found: dict[str, list[tuple[int, Path]]] = {}
        for name, path in _pictures(beside, problems).items() if beside.is_dir() else ():
            numbered = re.fullmatch(r"(.+)_(\d+)", name)
            if name in stems:
                found.setdefault(name, []).append((-1, path))
            elif numbered and numbered[1] in stems:
                found.setdefault(numbered[1], []).append((int(numbered[2]), path))
            else:
                problems.append(f"{SOURCES}/{path.name} has no target of its name")
        return [tuple(path for _, path in sorted(found.get(target.stem, []))) for target in self.targets]

    @property
    def count(self) -> int:
        return len(self.targets)

    @property
    def identity(self) -> str:
        told = hashlib.sha256()
        for target, text, sources in zip(self.targets, self.texts, self.sources, strict=True):
            about = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (target, *sources)]
            told.update(repr((text, about)).encode())
        return f"folder {told.hexdigest()}"

    @property
    def order(self) -> str:
        """What batches follow from, in a line: names, texts and sizes. What the pictures show is no part of it, so that
        a damaged one can be mended while a run is stopped.
        """
        told = hashlib.sha256()
        for target, text, sources, shape in zip(self.targets, self.texts, self.sources, self.shapes, strict=True):
            told.update(repr(([path.name for path in (target, *sources)], text, shape)).encode())
        return f"folder {told.hexdigest()}"

    def shape(self, index: int) -> Shape:
        return self.shapes[index]

    def __getitem__(self, index: int) -> Example:
        sources = tuple(open_image(path) for path in self.sources[index])
        return Example(sources, (Turn(self.texts[index], open_image(self.targets[index])),))


def _pictures(folder: Path, problems: list[str]) -> dict[str, Path]:
    """The pictures of a folder by their names without ending, sorted."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in ENDINGS and not path.name.startswith("."):
            if path.stem in found:
                problems.append(f"{found[path.stem].name} and {path.name} share a name")
            found[path.stem] = path
    return found


def _text(file: Path, problems: list[str]) -> str:
    try:
        text = file.read_text("utf-8-sig").strip()
    except FileNotFoundError:
        problems.append(f"there is no {file.name}")
        return ""
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file.name} cannot be read as UTF-8 text ({error})")
        return ""
    if not text:
        problems.append(f"{file.name} is empty")
    return text
