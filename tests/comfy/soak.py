"""Many runs in a row through one server: every workflow with changing seeds and sizes, cancels at random moments,
models unloaded in between. Memory and open files must not grow.

COMFYUI_PATH=… python tests/comfy/soak.py --runs 500 --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_cli.workflow_to_api import convert_ui_to_api
from conftest import comfyui
from serving import BEYOND_THE_NANO, PACK, Server, serve

WORKFLOWS = sorted(path for path in (PACK / "workflows").glob("*.json") if path.stem not in BEYOND_THE_NANO)
SIZED = {"LightBagelGenerate", "Wan22ImageToVideoLatent", "EmptyLatentImage", "EmptyImage"}
SIDES = (64, 96, 128, 160)
STEPS = (1, 2, 3, 4, 6)
CANCELLED, UNLOADED = 0.2, 0.1  # how often
MEGABYTES, FILES = 40, 4  # what the last third may have more than the first one, by its least


@dataclass
class Soak:
    """What was measured: one figure a run."""

    ends: Counter[str] = field(default_factory=Counter)
    memory: list[dict[str, float]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def thirds(self, figures: list[float], warm: int) -> tuple[float, float]:
        """The least of the first and of the last third, after the runs that warm up. What has been let go of stays for
        up to ten seconds, until ComfyUI collects garbage: a whole model after a workflow with another loader.
        """
        kept = figures[warm:]
        size = max(1, len(kept) // 3)
        return min(kept[:size]), min(kept[-size:])

    def grown(self, warm: int) -> list[str]:
        """What has grown, in words."""
        said = []
        for name in ("VmRSS", "RssAnon"):
            first, last = self.thirds([each[name] for each in self.memory], warm)
            if last - first > MEGABYTES:
                said.append(f"{name} grew from {first:.0f} to {last:.0f} MB")
        first, last = self.thirds([float(count) for count in self.files], warm)
        if last - first > FILES:
            said.append(f"open files grew from {first:.0f} to {last:.0f}")
        return said

    def report(self, warm: int) -> str:
        lines = [f"{len(self.files)} runs: {', '.join(f'{n} {end}' for end, n in sorted(self.ends.items()))}"]
        for name in ("VmRSS", "RssAnon"):
            figures = [each[name] for each in self.memory]
            first, last = self.thirds(figures, warm)
            lines.append(f"{name}: first third {first:.0f} MB, last third {last:.0f} MB, most {max(figures):.0f} MB")
        first, last = self.thirds([float(count) for count in self.files], warm)
        lines.append(f"open files: first third {first:.0f}, last third {last:.0f}, most {max(self.files)}")
        return "\n".join(lines + self.wrong + self.grown(warm))


def prompt(info: dict[str, Any], workflow: Path, chance: random.Random) -> dict[str, Any]:
    """A workflow as a prompt in API format, with a seed, a number of steps and a size by chance."""
    nodes: dict[str, Any] = convert_ui_to_api(json.loads(workflow.read_text("utf-8")), info)
    steps, width, height = chance.choice(STEPS), chance.choice(SIDES), chance.choice(SIDES)
    for node in nodes.values():
        inputs = node["inputs"]
        for name in ("seed", "noise_seed"):
            if name in inputs:
                inputs[name] = chance.randrange(1 << 64)
        if "steps" in inputs:
            inputs["steps"] = steps
        if node["class_type"] in SIZED:
            inputs |= {"width": width, "height": height}
        if node["class_type"] == "ConditioningSetArea":  # two regions side by side share the picture
            half = width // 16 * 8
            inputs |= {"width": max(64, half), "height": max(64, height), "x": half if inputs["x"] else 0}
    return nodes


def soak(server: Server, runs: int, seed: int, say: Any = None) -> Soak:
    """Runs, cancels, unloads and measures; what comes when depends on the seed alone."""
    chance, seen, info = random.Random(seed), Soak(), server.request("/object_info")
    for i in range(runs):
        workflow = WORKFLOWS[i] if i < len(WORKFLOWS) else chance.choice(WORKFLOWS)
        nodes, cancel, unload = prompt(info, workflow, chance), chance.random(), chance.random()
        delay, everything = chance.uniform(0, 0.6), chance.random() < 0.5
        prompt_id = server.request("/prompt", {"prompt": nodes})["prompt_id"]
        if i >= len(WORKFLOWS) and cancel < CANCELLED:
            time.sleep(delay)
            server.interrupt()
        entry = server.ended(prompt_id)
        kind, body = entry["status"]["messages"][-1]
        seen.ends[kind.removeprefix("execution_")] += 1
        if kind == "execution_error":
            seen.wrong.append(f"run {i}, {workflow.stem}: {body['node_type']}: {body['exception_message']}")
        if unload < UNLOADED:
            server.free(everything)
        server.forget()
        seen.memory.append(server.memory())
        seen.files.append(server.open_files())
        if say is not None and i % 50 == 49:
            say(f"{i + 1}: {seen.memory[-1]['VmRSS']:.0f} MB, {seen.files[-1]} files")
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    # The newer way of caching keeps the results of former runs while there is memory: growth by design.
    with tempfile.TemporaryDirectory() as folder, serve(comfyui(), Path(folder) / "base", "--cache-classic") as server:
        started = time.monotonic()
        seen = soak(server, asked.runs, asked.seed, lambda text: print(text, flush=True))
        said = {"errors": len(server.tracebacks()), "memory leaks": server.log_text().count("memory leak")}
    warm = asked.runs // 10
    print(f"seed {asked.seed}, {time.monotonic() - started:.0f} s\n{seen.report(warm)}")
    for what, count in said.items():
        print(f"{what} in the log: {count}")
    return bool(seen.wrong or seen.grown(warm) or any(said.values()))


if __name__ == "__main__":
    sys.exit(main())
