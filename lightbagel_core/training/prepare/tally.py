"""What is counted of a set while it is prepared, and what a person is told of it in the end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...config import PUBLISHED
from ...files.formats import read_config
from ...images import size_by_rule
from ..data.store import LEFT_OUT, Manifest, SetAbout, StoredRow
from ..planning.plan_table import gb
from .rows import LeftOut

NAMED, REASONS, SIZES = 3, 12, 8  # of a reason so many keys are named; so many reasons and sizes are told
KINDS = 1000  # of reasons that are told apart
OTHER = "other reasons"
UNKNOWN = "unknown"


@dataclass
class Tally:
    """Counts of one set.

    pictures: what was done to them. reasons: by why rows are left out, in words without numbers, how many, and the
    first ones' keys. sizes: "WxH" that the published model's rule gives targets.
    """

    rows: int = 0
    examples: int = 0
    left_out: int = 0
    doubles: int = 0
    pictures: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, list[Any]] = field(default_factory=dict)
    sizes: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Tally:
        """From what `vars` gave, by way of JSON."""
        return cls(**{**said, "pictures": Counter(said["pictures"]), "sizes": Counter(said["sizes"])})

    def kept(self, row: StoredRow) -> None:
        self.rows += 1
        self.examples += row.repeats
        self.sizes.update(map(_sized, row.target_sizes))

    def lost(self, row: LeftOut) -> None:
        self.left_out += 1
        reason = re.sub(r"'[^']*'|\"[^\"]*\"", "…", re.sub(r"\d+", "N", row.why))
        if reason not in self.reasons and len(self.reasons) >= KINDS:
            reason = OTHER
        known = self.reasons.setdefault(reason, [0, []])
        known[0] += 1
        if len(known[1]) < NAMED:
            known[1].append([row.key, row.why])

    def about(self, name: str, layout: str, source: str, licence: str, stamp: str, longest: int) -> SetAbout:
        """What the store says of the set."""
        sizes = sorted(
            ((*map(int, size.split("x")), count) for size, count in self.sizes.items()),
            key=lambda one: (-one[2], one),
        )
        counts = self.rows, self.examples, self.left_out, self.doubles
        return SetAbout(name, layout, source, licence, stamp, longest, *counts, tuple(sizes))  # type: ignore[arg-type]


@lru_cache(maxsize=4096)
def _sized(size: tuple[int, int]) -> str:
    width, height = size_by_rule(*size, read_config(PUBLISHED).vae_image)
    return f"{width}x{height}"


def report(folder: Path, manifest: Manifest, tallies: Sequence[Tally]) -> str:
    """What a store holds, and of its last sets what became of their rows.

    Args:
        tallies: of the sets that were added now, the last ones.
    """
    examples, size = (sum(about.examples for about in manifest.sets), sum(shard.bytes for shard in manifest.shards))
    repeated = f", {examples:,} with their repeats" if examples != manifest.rows else ""
    files = f"{len(manifest.shards)} file" + "s" * (len(manifest.shards) != 1)
    lines = [f"{folder}: {manifest.rows:,} rows{repeated}, {gb(size)} in {files}"]
    first = len(manifest.sets) - len(tallies)
    for number, about in enumerate(manifest.sets):
        lines.append(f"{about.name}: {about.rows:,} rows, {about.doubles:,} doubles, {about.left_out:,} left out")
        lines.append(f"  layout {about.layout}, source {about.source or UNKNOWN}, licence {about.licence or UNKNOWN}")
        if number >= first:
            lines += _details(about, tallies[number - first], folder)
    return "\n".join(lines)


def _details(about: SetAbout, tally: Tally, folder: Path) -> list[str]:
    lines = []
    if about.sizes:
        more = len(about.sizes) - SIZES
        sizes = ", ".join(f"{count:,} of {width}x{height}" for width, height, count in about.sizes[:SIZES])
        lines.append(
            f"  targets as the 5B model sizes them: {sizes}" + (f", and {more} more sizes" if more > 0 else "")
        )
    lines += [f"  pictures: {count:,} {what}" for what, count in sorted(tally.pictures.items()) if count]
    ordered = sorted(tally.reasons.items(), key=lambda one: (-one[1][0], one[0]))
    for reason, (count, some) in ordered[:REASONS]:
        same = len({why for _, why in some}) == 1
        keys = [key if same or reason != OTHER else f"{key}: {why}" for key, why in some]
        shown = some[0][1] if same and reason != OTHER else reason
        lines.append(f"  left out {count:,}: {shown} ({'; '.join(keys)}{'; …' if count > len(keys) else ''})")
    if len(ordered) > REASONS:
        rest = sum(count for _, (count, _) in ordered[REASONS:])
        lines.append(f"  left out {rest:,} for {len(ordered) - REASONS} more reasons")
    if tally.left_out or tally.doubles:
        lines.append(f"  {folder / LEFT_OUT} lists each of them")
    return lines
