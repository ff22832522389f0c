"""Processes of their own without the seconds that importing torch takes: forked from one that has imported it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS = 300  # after which a child hangs

PARENT = """
import json, os, sys, traceback
import torch
torch.set_num_threads(1)  # threads do not survive a fork

PREPARE

def child(code, argv, env, places):
    for number, place in zip((1, 2), places):
        os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["-c", *argv]
    try:
        exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

for line in sys.stdin:
    asked = json.loads(line)
    pid = os.fork()
    if not pid:
        child(**asked)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass
class Child:
    """One that runs. Like `subprocess.Popen` it has `pid`, and says how it ended."""

    process: subprocess.Popen[str]
    argv: Sequence[str]
    places: Sequence[Path]
    pid: int

    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:  # its parent has waited for it
            return False
        return True

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> subprocess.CompletedProcess[str]:
        until = time.monotonic() + SECONDS
        while self.alive():
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"{self.argv} has not ended after {SECONDS} s")
            time.sleep(0.002)
        assert self.process.stdout is not None
        code = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(self.argv, code, *(place.read_text("utf-8") for place in self.places))


@dataclass
class Parent:
    """A waiting process; `run` is `subprocess.run([sys.executable, "-c", code, *argv], env=env)` in a child of it,
    `start` does not wait for the child's end, which is to be waited for before there is another.
    """

    process: subprocess.Popen[str]
    folder: Path

    def start(self, code: str, argv: Sequence[str], env: Mapping[str, str]) -> Child:
        places = [self.folder / name for name in ("stdout", "stderr")]
        for place in places:
            place.write_text("", "utf-8")
        asked = {"code": code, "argv": list(argv), "env": dict(env), "places": list(map(str, places))}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return Child(self.process, argv, places, int(self.process.stdout.readline()))

    def run(self, code: str, argv: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return self.start(code, argv, env).wait()


@contextmanager
def parent(prepare: str, env: Mapping[str, str]) -> Iterator[Parent]:
    """A parent that has run `prepare` (imports, patches) in the environment `env`."""
    command = [sys.executable, "-c", PARENT.replace("PREPARE", prepare)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": dict(env)}
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(command, **pipes) as process:
        yield Parent(process, Path(folder))
        assert process.stdin is not None
        process.stdin.close()
