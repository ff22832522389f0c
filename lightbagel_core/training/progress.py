"""What a person sees while training runs: loss, tokens a second, how well the device is used, time left."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

import torch
from tqdm.auto import tqdm

WINDOW = 50  # steps that the bar's figures are the mean of
SIDES = (256, 512, 1024, 2048, 4096, 8192)  # of the matrices that measure a device
ENOUGH = 0.05  # seconds: a product that takes so long is large enough, and the one before it took an eighth


def device_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The FLOP/s that a device reaches in products of square matrices, measured now, within a second.

    Other processes that share the device, or the cores of a CPU, make it less. No random state is changed.
    """
    best = 0.0
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        for side in SIDES:
            pair = [torch.rand(side, side, generator=generator, device=device).to(dtype) for _ in range(2)]
            seconds = _seconds(pair[0], pair[1])  # a first time, in which kernels are chosen
            repeats = 3 if seconds < ENOUGH else 1
            seconds = min(_seconds(pair[0], pair[1]) for _ in range(repeats))
            best = max(best, 2 * side**3 / seconds)
            if seconds > ENOUGH:
                break
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()
    return best


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    """What one product takes."""
    wait = torch.get_device_module(a.device).synchronize
    wait()
    started = time.perf_counter()
    torch.mm(a, b)
    wait()
    return max(time.perf_counter() - started, 1e-9)


def device_gb(device: torch.device) -> float:
    """The most memory that this process has held on a CUDA device, in GB; 0.0 on others, which do not count it."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


class Progress:
    """A bar on the first process, and the figures of speed for the record.

    Args:
        steps: of the whole run. done: those before this process began.
        rate: FLOP/s that all devices of the run reach together, as `device_rate` measures one; 0: unknown, and no
            share is given.
        shown: whether a bar is; figures are given anyway.
        file: where the bar is written; default: the terminal.
    """

    def __init__(
        self, steps: int, done: int = 0, rate: float = 0.0, shown: bool = True, file: TextIO | None = None
    ) -> None:
        self.rate = rate
        self._bar = tqdm(
            total=steps, initial=done, disable=not shown, unit="step", smoothing=0, dynamic_ncols=True, file=file
        )
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._recent: deque[tuple[float, int, float]] = deque(maxlen=WINDOW)  # seconds, tokens and FLOPs of each step
        self._since = time.perf_counter()

    def update(self, loss: float, tokens: int, flops: float = 0.0, memory: float = 0.0) -> dict[str, float]:
        """Counts a step that is done; its figures for the record.

        Args:
            tokens, flops: of the step, all devices together; FLOPs as they are counted on paper, what activation
                checkpointing computes again left out.
            memory: the device's at its peak, in GB; 0: not known.

        Returns:
            tokens_per_second and, where they are known, device_share, of this step alone, and device_gb; the bar shows
            the means of the latest ones.
        """
        now = time.perf_counter()
        self._recent.append((max(now - self._since, 1e-9), tokens, flops))
        self._losses.append(loss)
        self._since = now
        mean = self._speed(self._recent)
        shown = {
            "loss": f"{sum(self._losses) / len(self._losses):.4f}",
            "tokens/s": f"{mean['tokens_per_second']:,.0f}",
        }
        if "device_share" in mean:
            shown["device"] = f"{mean['device_share']:.0%}"
        if memory:
            shown["memory"] = f"{memory:.1f} GB"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()
        return self._speed([self._recent[-1]]) | ({"device_gb": memory} if memory else {})

    def _speed(self, steps: deque[tuple[float, int, float]] | list[tuple[float, int, float]]) -> dict[str, float]:
        seconds, tokens, flops = (sum(column) for column in zip(*steps, strict=True))
        found = {"tokens_per_second": tokens / seconds}
        if self.rate and flops:
            found["device_share"] = flops / seconds / self.rate
        return found

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what is done meanwhile, a validation or a checkpoint, out of the steps' speed."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - before

    def say(self, text: str) -> None:
        """Prints a line above the bar, to the standard error stream."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
