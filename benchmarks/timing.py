"""Times of several ways to do the same thing, taken in turns, so that what else a machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def clock(device: torch.device) -> float:
    """Seconds; what the device was given to do before is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def interleaved(
    tasks: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device, warm: int = 2
) -> dict[str, float]:
    """Median seconds of each task: all of them once a round, forwards and backwards, after `warm` untimed runs each."""
    for task in tasks.values():
        for _ in range(warm):
            task()
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds):
        for name in list(tasks)[:: -1 if turn % 2 else 1]:
            began = clock(device)
            tasks[name]()
            seconds[name].append(clock(device) - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns, aligned: numbers to four digits, None as a dash."""

    def said(value: Any) -> str:
        return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [list(rows[0]), *([said(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines)
