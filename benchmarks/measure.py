"""What a process of its own needed: its time and the most memory it held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any


def memory() -> dict[str, int]:
    """Bytes held now: `anon` is this process's own, `file` lies in files the system can drop at any time."""
    fields = dict(
        line.split()[:2] for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.split()[1:]
    )
    return {"anon": int(fields["RssAnon:"]) * 1024, "file": int(fields["RssFile:"]) * 1024}


class Peak:
    """The most of each kind of memory while it is open, looked at every few milliseconds."""

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


def apart(module: str, *words: str) -> dict[str, Any]:
    """What `python -m module words` prints last, as JSON; in a process of its own, so that nothing is counted twice."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
