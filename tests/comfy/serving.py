"""A ComfyUI server with nothing but the pack in it, as a person starts one."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PACK = Path(__file__).resolve().parents[2]
START, RUN = 180, 300  # seconds at most
# Workflows that the nano refuses, whose VLM has a closed vocabulary, and the checkpoints they run with.
BEYOND_THE_NANO = {"rewrite": "scripted", "plan-and-draw": "planner"}
SCRIPT = (
    "A weathered white lighthouse stands on a rocky headland at dusk, its red lantern room throwing one warm beam "
    "over dark rolling sea; gulls circle above, wet black stones shine below, and far clouds glow orange behind "
    "everything. In front, a narrow wooden stair climbs from the shingle beach to an old keeper's cottage with two "
    "lit windows, slate roof tiles and smoke rising straight from its chimney. To our left three fishing boats lie "
    "moored beside a stone quay, their green hulls mirrored softly between ripples. Heather and dry grass cover the "
    "slope; sheep graze near a broken fence. The mood is calm yet lonely, painted in thick oil strokes, seen "
    "slightly from below with a wide angle, fine grain, deep blue shadows and gold highlights along each edge, so "
    "that light itself becomes the main subject of this quiet evening scene by the northern coast."
)
PLAN = (
    "1. A brown seed lies in dark soil under a pale morning sky, seen from the side.\n2. Let a green sprout with two "
    "leaves grow out of it; sky and ground stay as they are.\n3. Make a tall tree of the small plant; everything else "
    "stays."
)
SCRIPTS = {"scripted": SCRIPT, "planner": PLAN}  # what the VLM of each says


class Refused(Exception):
    """What the server says is wrong with a prompt, or with a part of it, before anything runs."""


class Server:
    """A running ComfyUI; `url` is its address, `base` its folder of models, input and output."""

    def __init__(self, process: subprocess.Popen[Any], port: int, base: Path, log: IO[str]) -> None:
        self.process, self.base, self.log = process, base, log
        self.url = f"http://127.0.0.1:{port}"

    def request(self, path: str, data: Any = None) -> Any:
        """Parsed JSON of a GET, or of a POST if there is data."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise Refused(error.read().decode()) from error
        return json.loads(text) if text else None

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """The history entry of a prompt in API format, once it has ended, well or not.

        Raises:
            Refused: any of its nodes is refused, even if others would run.
        """
        answer = self.request("/prompt", {"prompt": prompt})
        entry = self.ended(answer["prompt_id"])
        if answer["node_errors"]:
            raise Refused(json.dumps(answer))
        return entry

    def ended(self, prompt_id: str) -> dict[str, Any]:
        limit = time.monotonic() + RUN
        while time.monotonic() < limit:
            history = self.request(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended:\n{self.log_text()[-6000:]}")
            time.sleep(0.1)
        raise TimeoutError(f"no result after {RUN} s:\n{self.log_text()[-6000:]}")

    def interrupt(self) -> None:
        """Presses the cancel button."""
        self.request("/interrupt", {})

    def free(self, everything: bool) -> None:
        """Has all models unloaded, and where `everything` the results of former runs forgotten."""
        self.request("/free", {"unload_models": True, "free_memory": everything})

    def forget(self) -> None:
        """Empties the list of former runs, which the server keeps and which grows with each."""
        self.request("/history", {"clear": True})

    def memory(self) -> dict[str, float]:
        """Megabytes that lie in memory: all (VmRSS), and those that are no file's (RssAnon). Linux alone says so."""
        text = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        fields = dict(line.split(":", 1) for line in text.splitlines())
        return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon")}

    def open_files(self) -> int:
        """How many files, pipes and sockets are open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def alive(self) -> bool:
        return self.process.poll() is None

    def tracebacks(self) -> list[str]:
        """Errors with their places that the server has logged, but those of its own database: there is none here."""
        _, *found = self.log_text().split("Traceback (most recent call last):")
        return [text[:2000] for text in found if "sqlalchemy" not in text[:3000]]

    def log_text(self) -> str:
        """All the server has said so far."""
        return Path(self.log.name).read_text("utf-8")


def checkpoints(base: Path) -> Path:
    """The folder of checkpoints of a server whose files lie in a base folder."""
    return base / "models" / "lightbagel"


def front_end() -> list[str]:
    """The arguments of main.py for another page than the ComfyUI's own: that of COMFYUI_PAGE, if it is set."""
    root = os.environ.get("COMFYUI_PAGE")
    return ["--front-end-root", root] if root else []


def free_port() -> int:
    """A free port below those that a program is given that asks for any: no other takes it before the server does."""
    while True:
        port = random.SystemRandom().randrange(20000, 30000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def serve(comfyui: Path, base: Path, *arguments: str, with_pack: bool = True) -> Iterator[Server]:
    """A server on a free port, with more arguments for main.py, from starting to answer until the end of the block."""
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    if with_pack:
        (base / "custom_nodes" / "lightbagel").symlink_to(PACK)
    port = free_port()
    command = [
        sys.executable, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch",
        "--disable-api-nodes", "--base-directory", str(base), "--database-url", "sqlite:///:memory:",
        "--preview-method", "auto", *front_end(), *arguments,
    ]  # fmt: skip
    with open(base / "log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=comfyui, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        server = Server(process, port, base, log)
        try:
            limit = time.monotonic() + START
            while True:
                try:
                    server.request("/system_stats")
                    break
                except urllib.error.URLError:
                    if process.poll() is not None or time.monotonic() > limit:
                        raise RuntimeError(f"ComfyUI did not start:\n{server.log_text()[-6000:]}") from None
                    time.sleep(0.2)
            yield server
        finally:
            process.terminate()
            process.wait(30)
            shutil.rmtree(base / "output", ignore_errors=True)
