"""A bench's batches, shared among processes and taken up again where they were stopped.

The batch is the unit of work. Which pictures are in it follows from the bench and the settings alone: so it makes no
difference to a picture how many processes share the batches, or how often they were stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ...pipeline import LightBagel
from ..items import Item
from .draw import Drawer, is_there
from .presets import Drawing
from .run_file import SCRATCH
from .shares import Share


@dataclass(frozen=True)
class Report:
    """drawn: pictures that this call made. there: that it found. missing: why an item lacks some, by its id."""

    drawn: int
    there: int
    missing: dict[str, str]
    seconds: float


def batches(items: Sequence[Item], drawing: Drawing) -> list[Sequence[Item]]:
    """The items of each batch: as many as have room in it, with all their samples; at least one."""
    together = max(1, drawing.batch // drawing.samples)
    return [items[start : start + together] for start in range(0, len(items), together)]


def draw_bench(
    model: LightBagel,
    bench: str,
    items: Sequence[Item],
    out: Path,
    drawing: Drawing,
    share: Share | None = None,
    progress: bool = True,
) -> Report:
    """Draws this process's share of a bench's items into `out`; what is there already is left as it is.

    Raises:
        ValueError: a setting outside its range, another process with the same share, a full disk.
    """
    share, started = share or Share(), monotonic()
    scratch = out / SCRATCH / f"{share.rank}-of-{share.world}"
    drawer, work = Drawer(model, bench, out, drawing, scratch), batches(items, drawing)
    mine = [work[number] for number in share.batches(len(work))]
    waiting = [batch for batch in mine if not all(is_there(item, out) for item in batch)]

    def size(batches: Sequence[Sequence[Item]]) -> int:
        return drawing.samples * sum(len(item.turns) for batch in batches for item in batch)

    there, drawn = size([[item for batch in mine for item in batch if is_there(item, out)]]), 0
    drawer.scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            FileLock(drawer.scratch.with_suffix(".lock"), timeout=0),
            tqdm(
                total=size(mine), initial=there, disable=not progress, unit=" pictures", desc=bench, smoothing=0
            ) as bar,
        ):
            shutil.rmtree(drawer.scratch, ignore_errors=True)  # of a process that was killed while it wrote
            for batch in waiting:
                drawn += drawer.batch(batch)
                bar.update(size([batch]))
    except Timeout:
        raise ValueError(
            f"another process is drawing share {share.rank} of {share.world} into {out}; wait for it, or give each "
            "process its own RANK"
        ) from None
    return Report(drawn, there, drawer.missing, monotonic() - started)
