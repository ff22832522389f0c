"""A store of prepared rows as a set of examples; one that counts several times is as many examples."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...images import read_image
from .example import Example, Shape, Turn, words
from .store import Store


class StoreSet:
    """
    Raises:
        ValueError: there is no store, it is damaged or empty, or pyarrow is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.store = Store(folder)
        stretches = [stretch for shard in self.store.manifest.shards for stretch in shard.repeats]
        if not stretches:
            raise ValueError(f"{self.store.folder} holds no rows to learn from")
        rows, self.repeats = np.array(stretches, dtype=np.int64).T
        self.row_ends, self.ends = np.cumsum(rows), np.cumsum(rows * self.repeats)

    @property
    def count(self) -> int:
        return int(self.ends[-1])

    @property
    def identity(self) -> str:
        return f"store {self.store.checksum}"

    def about(self) -> list[dict[str, Any]]:
        """Of each of the store's sets its name, its examples, and where they are known its source and its licence."""
        found: list[dict[str, Any]] = []
        for one in self.store.manifest.sets:
            known = {"source": one.source, "licence": one.licence}
            found.append({"name": one.name, "count": one.examples} | {key: text for key, text in known.items() if text})
        return found

    def rows(self, indices: Any) -> np.ndarray:
        """The row that each example is: int64, as many as are asked for."""
        indices = np.asarray(indices, dtype=np.int64)
        stretch = np.searchsorted(self.ends, indices, side="right")
        return cast(
            np.ndarray, self.row_ends[stretch] - 1 - (self.ends[stretch] - 1 - indices) // self.repeats[stretch]
        )

    def shape(self, index: int) -> Shape:
        """Raises ValueError where the store was changed since it was opened."""
        sources, targets, texts = self.store.measures(int(self.rows(index)))
        return Shape(tuple(sources), tuple(targets), tuple(map(words, texts)))

    def __getitem__(self, index: int) -> Example:
        number = int(self.rows(index))
        row, name = self.store.row(number), self.store.name(number)
        sources, targets = (
            [read_image(BytesIO(content), f"{name} ({row.key})") for content in contents]
            for contents in (row.sources, row.targets)
        )
        return Example(tuple(sources), tuple(map(Turn, row.texts, targets)))
