"""ai-toolkit: targets with a .txt each (`folder_path`), and their sources by the same names in control folders
(`control_path`, or `control_path_1` and so on). What the trainer's config calls them is told by the folders' names.

cat.png  cat.txt  control/cat.png
targets/cat.png  targets/cat.txt  control_1/cat.jpg  control_2/cat.jpg
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..rows import LeftOut, Row, Unit
from . import folder_pairs
from .folder_pairs import beside_control


@dataclass(frozen=True)
class AiToolkit:
    name: str = "ai-toolkit"
    needs: str = "pictures with a .txt of the same name, and their sources in control/, or in control_1/, control_2/, …"

    def fits(self, source: Path) -> bool:
        try:
            beside_control(source)
        except (ValueError, OSError):
            return False
        return True

    def units(self, source: Path) -> list[Unit]:
        folders, left_out = beside_control(source)
        return folders.units() + left_out

    def rows(self, source: Path, unit: Unit) -> Iterator[Row | LeftOut]:
        return folder_pairs.rows(source, unit)


LAYOUT = AiToolkit()
