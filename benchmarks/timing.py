"""Times, launches and memory of calls, taken in turns so that a ratio comes from one run; the table and its JSON."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from .measure import Peak

Call = Callable[[], Any]


def seconds(call: Call, device: torch.device) -> float:
    """What one call takes: by CUDA's own events on a CUDA device, else by the clock."""
    if device.type != "cuda":
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    torch.cuda.synchronize(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def interleaved(callables: Mapping[str, Call], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each callable, `rounds` of them, called in turns (A, B, A, B, ...) after one call each to warm up."""
    for call in callables.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in callables}
    for _ in range(rounds):
        for name, call in callables.items():
            times[name].append(seconds(call, device))
    return times


def rounds_within(budget: float, callables: Mapping[str, Call], device: torch.device) -> int:
    """How many rounds take about so many seconds: 3 to 51."""
    once = sum(times[0] for times in interleaved(callables, 1, device).values())
    return max(3, min(51, int(budget / once)))


def ratio(times: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """The median of what one took over what the other took in the same round."""
    return statistics.median(a / b for a, b in zip(times[over], times[under], strict=True))


def peak_bytes(call: Call, device: torch.device) -> int:
    """The most memory during a call: the CUDA allocator's, or on a CPU all that is the process's own."""
    if device.type != "cuda":
        with Peak() as peak:
            call()
        return peak.most["anon"]
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def launches(call: Call, device: torch.device, compiled: bool = False) -> dict[str, int]:
    """How much one call hands to the device: {"kernels": CUDA kernels}, or {"operators": ATen operators, views too};
    nothing of a compiled program on a CPU, which torch does not let be watched.
    """
    if device.type != "cuda" and compiled:
        return {}
    if device.type != "cuda":
        with _Operators() as operators:
            call()
        return {"operators": operators.count}
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize(device)
    on_device = (event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA)
    return {"kernels": sum(not event.name.startswith(("Memcpy", "Memset")) for event in on_device)}


def about(device: torch.device) -> dict[str, Any]:
    """What a figure was measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": device.type, "device_name": name, "torch": torch.__version__}


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of figures as aligned text, each row in a column of its own."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[name, *(_said(row.get(name)) for row in rows)] for name in names]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = widths
    return "\n".join(
        "  ".join([f"{name:<{first}}", *(f"{text:>{width}}" for text, width in zip(said, others, strict=True))])
        for name, *said in lines
    )


def options(about: str | None) -> argparse.ArgumentParser:
    """The options that all of these benchmarks share."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, help="default: the CUDA device that is there, else the CPU")
    parser.add_argument("--rounds", type=int, help="default: what fits into some seconds, at least 3")
    parser.add_argument("--json", type=Path, help="a file for the same figures")
    parser.set_defaults(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return parser


def write_json(file: Path | None, figures: Mapping[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(figures, indent=1), "utf-8")
