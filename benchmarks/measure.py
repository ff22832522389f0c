"""Times and memory of calls, taken in turns so that a ratio comes from one run; their table and JSON."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Call = Callable[[], Any]


def seconds(call: Call, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """What one call takes, until the device has done it."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda *_: None
    wait(device)
    began = clock()
    call()
    wait(device)
    return clock() - began


def interleaved(
    callables: Mapping[str, Call], rounds: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each callable, `rounds` of them, called in turns (A, B, A, B, ...) after one call each to warm up."""
    for call in callables.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in callables}
    for _ in range(rounds):
        for name, call in callables.items():
            times[name].append(seconds(call, device, clock))
    return times


def ratio(times: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """The median of what one took over what the other took in the same round."""
    return statistics.median(a / b for a, b in zip(times[over], times[under], strict=True))


def memory() -> dict[str, int]:
    """Bytes this process holds now: `anon` is its own, `file` lies in files that the system can drop at any time."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    fields = dict(line.split()[:2] for line in text.splitlines() if line.split()[1:])
    return {"anon": int(fields["RssAnon:"]) * 1024, "file": int(fields["RssFile:"]) * 1024}


class Peak:
    """The most of each kind of memory while it is open, looked at every few milliseconds; and for how long it was."""

    def __enter__(self) -> Peak:
        self.start = memory()
        self.most = {**self.start, "both": sum(self.start.values())}
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        self.began = time.perf_counter()
        return self

    def watch(self) -> None:
        while not self.done.wait(0.002):
            now = memory()
            now["both"] = sum(now.values())
            self.most = {kind: max(size, now[kind]) for kind, size in self.most.items()}

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.began
        self.done.set()
        self.watcher.join()


def apart(call: Callable[..., Any], *args: Any) -> Any:
    """What a call gives in a process of its own, so that its memory is counted from the start and once."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, args)


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of figures as aligned text; each row in a column of its own, unless there are more rows than figures."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[name, *(_said(row.get(name)) for row in rows)] for name in names]
    if len(rows) > len(names):
        lines = [list(line) for line in zip(*lines, strict=True)]
    first, *others = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([f"{name:<{first}}", *(f"{text:>{width}}" for text, width in zip(said, others, strict=True))])
        for name, *said in lines
    )


def options(about: str | None) -> argparse.ArgumentParser:
    """The options that the benchmarks share."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, help="default: the CUDA device that is there, else the CPU")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own")
    parser.add_argument("--rounds", type=int, default=15, help="default: 15")
    parser.add_argument("--json", type=lambda name: Path(name).resolve(), help="a file for the same figures")
    parser.set_defaults(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line's arguments; torch has the threads they ask for."""
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def report(args: argparse.Namespace, what: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints the figures with what they were measured on, and writes the same into the file of `--json`."""
    name = platform.processor() or platform.machine()
    if args.device.type == "cuda":
        name = torch.cuda.get_device_name(args.device)
    print(f"{what}; {name}, torch {torch.__version__}, threads: {torch.get_num_threads()}")
    print(table(rows), flush=True)
    if args.json:
        head = {"what": what, "device": args.device.type, "device_name": name, "torch": torch.__version__}
        figures = head | {"threads": torch.get_num_threads(), "rows": list(rows)}
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
