"""A layout for tests of the pass: a file with a line for each row, of which other processes can make rows too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prepared_rows import encoded

from lightbagel_core.training.prepare.rows import LeftOut, Picture, Row, Unit

PIECE = 10  # lines of a unit


@dataclass(frozen=True)
class Lines:
    """Each line is the level of a picture, or "bad", "text", "lost" or "stop"."""

    name: str = "lines"
    needs: str = "a text"

    def fits(self, source: Path) -> bool:
        return source.suffix == ".txt"

    def units(self, source: Path) -> list[Unit]:
        count = len(source.read_text("utf-8").split())
        return [Unit(source, at, min(at + PIECE, count)) for at in range(0, count, PIECE)]

    def rows(self, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
        for number, word in list(enumerate(source.read_text("utf-8").split()))[unit.first : unit.last]:
            key = f"{source.name}, line {number}"
            if word == "lost":
                yield LeftOut(key, "it is lost")
                continue
            if word == "stop":
                raise ValueError("the file ends here")
            level = int(word) if word.isdecimal() else number
            content = b"no picture" if word == "bad" else encoded(level=level, format="JPEG")
            source_picture = (Picture(f"{key}, source", content=encoded(level=level + 1)),) if level % 2 else ()
            text = "" if word == "text" else f"level {level}"
            yield Row(key, source_picture, (text,), (Picture(f"{key}, target", content=content),), "recolour")


def write_lines(file: Path, words: list[object]) -> Path:
    file.write_text("\n".join(map(str, words)), "utf-8")
    return file
