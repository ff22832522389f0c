"""Many graphs of random values and wirings through one server. Each ends in success or in words that a person
understands, the server lives, and the next sound run draws what it drew before.

COMFYUI_PATH=… python tests/comfy/fuzz.py --graphs 1000 --seed 1
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from conftest import comfyui
from helpers import psnr
from PIL import Image
from random_graphs import OURS, SPOILT, Graph, Maker
from serving import Refused, Server, serve

# What a message of ours never holds: Python's and torch's own words for what went wrong inside.
INTERNAL = re.compile(
    r"index out of range|NoneType|has no attribute|unexpected keyword|positional argument|not subscriptable|"
    r"not iterable|size of tensor|must match|is invalid for input|mat1 and mat2|expected .{0,60} but got|"
    r"invalid literal|Traceback|<class|tensor\(|object at 0x|KeyError|unsupported operand|Expected \d-?D|codec can't"
)
SAID = {"ValueError", "FileNotFoundError"}  # the kinds of exception that are meant for a person
NO_NOISE = "sigmas[sigmas > 0].min()"  # where samplers by chance fail of a schedule without noise, whatever the model
EVERY = 8  # after so many graphs that ended badly a sound one is drawn again


@dataclass
class Fuzz:
    """How the graphs ended, and what was wrong with that."""

    ends: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    theirs: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, Graph] = field(default_factory=dict)
    worst: float = float("inf")  # dB, of the sound runs between

    def report(self) -> str:
        lines = [f"{n} {end}" for end, n in self.ends.most_common()]
        lines.append(f"sound runs between: the least alike {self.worst:.0f} dB")
        lines += [f"of ours, {n}: {text}" for text, n in self.messages.most_common()]
        lines += [f"the host's, {n}: {text}" for text, n in self.theirs.most_common()]
        return "\n".join([*lines, *(f"WRONG {text}\n  {json.dumps(graph)}" for text, graph in self.wrong.items())])


def is_ours(error: dict[str, Any], graph: Graph) -> bool:
    """Whether a run that failed did so in a node of ours, or in what of ours a sound stock node called. What a stock
    node itself was given against its own inputs is the host's to refuse.
    """
    spoilt = graph[error["node_id"]].get("_meta", {}).get("title") == SPOILT
    called = any("custom_nodes/lightbagel/" in line for line in error["traceback"])
    by_itself = NO_NOISE in error["traceback"][-1]
    return error["node_type"] in OURS or (called and not spoilt and not by_itself)


def judged(error: dict[str, Any], inputs: dict[str, Any]) -> str | None:
    """What is wrong with the words of an error of ours; None: a person understands them.

    They are of a kind meant for a person, hold none of Python's own words, are a sentence, and name an input of the
    node that they are shown at (or its kind, where the node is a stock one with our MODEL in it). An input may have no
    name at all: '' is then its name.
    """
    kind, text = error["exception_type"], error["exception_message"].strip()
    if kind not in SAID:
        return f"a {kind}"
    if found := INTERNAL.search(text):
        return f"Python's own words: {found[0]}"
    if len(text.split()) < 5:
        return "no sentence"
    names = {part for name in inputs for part in (name, name.split(".")[0].rstrip("s"), name.split(".")[-1])}
    names |= {"conditioning", "model", "latent"} if error["node_type"] not in OURS else set()
    spoken = text.lower()
    if not any(name and (name in spoken or name.replace("_", " ") in spoken) for name in names) and "''" not in spoken:
        return "names no input"
    return None


def sound() -> Graph:
    """A graph that must always run: all that LightBagel does, small."""
    common = {
        "model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "seed": 3, "steps": 2, "text_guidance": 2.0,
        "negative_prompt": "", "solver": "euler", "shift": 4.0, "renorm": "none", "renorm_min": 0.0,
        "guidance_from": 1.0, "guidance_to": 0.0,
    }  # fmt: skip
    draw = {"prompt": "a red circle", "width": 64, "height": 64, "batch_size": 1}
    change = {"images.image0": ["2", 0], "instruction": "make the circle blue", "image_guidance": 1.5}
    ask = {"clip": ["1", 1], "image": ["2", 0], "question": "Describe the image", "max_length": 32}
    loader = {"checkpoint": "nano (built in)", "weight_dtype": "default"}
    return {
        "1": {"class_type": "LightBagelLoader", "inputs": loader},
        "2": {"class_type": "LightBagelGenerate", "inputs": common | draw},
        "3": {"class_type": "LightBagelEdit", "inputs": common | change},
        "4": {"class_type": "LightBagelDescribe", "inputs": ask | {"sampling_mode": "off"}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }


def picture_of(server: Server, entry: dict[str, Any]) -> tuple[np.ndarray, str]:
    """The picture and the words of a sound run."""
    if entry["status"]["status_str"] != "success":
        raise AssertionError(f"a sound run failed: {entry['status']['messages'][-1]}")
    (image,) = entry["outputs"]["5"]["images"]
    with urllib.request.urlopen(f"{server.url}/view?{urllib.parse.urlencode(image)}") as answer:
        return np.asarray(Image.open(io.BytesIO(answer.read()))), "".join(entry["outputs"]["4"]["text"])


def fuzz(server: Server, graphs: int, seed: int, say: Any = None) -> Fuzz:
    info, seen = server.request("/object_info"), Fuzz()
    maker, good = Maker(info, seed), sound()
    first, words = picture_of(server, server.run(good))
    bad = 0
    for i in range(graphs):
        graph = maker.graph()
        end, error = run(server, graph)
        seen.ends[end] += 1
        if error is not None:
            node = graph[error["node_id"]]
            text = f"{error['node_type']}: {error['exception_type']}: {error['exception_message'].strip()[:300]}"
            if not is_ours(error, graph):
                seen.theirs[text] += 1
            else:
                seen.messages[text] += 1
                groups = info[node["class_type"]]["input"].values()  # an input that was taken away has a name too
                if (
                    why := judged(error, {name: None for group in groups for name in group} | node["inputs"])
                ) is not None:
                    seen.wrong.setdefault(f"{why}: {text}", graph)
        if end == "no answer in words":
            seen.wrong.setdefault(f"{end}: graph {i}", graph)
        bad += error is not None
        if (error is not None and bad % EVERY == 0) or i == graphs - 1:
            picture, said = picture_of(server, server.run(good))
            seen.worst = min(seen.worst, psnr(picture, first) if said == words else -1)
            server.forget()
        if say is not None and i % 100 == 99:
            say(f"{i + 1}: {dict(seen.ends)}")
    return seen


def run(server: Server, graph: Graph) -> tuple[str, dict[str, Any] | None]:
    """How a graph ended, and the error if it began and failed.

    Raises:
        RuntimeError: the server has ended.
    """
    try:
        answer = server.request("/prompt", {"prompt": graph})
    except Refused as refusal:
        try:
            said = json.loads(str(refusal))
        except ValueError:
            return "no answer in words", None
        return ("refused before it ran" if said.get("node_errors") or said.get("error") else "no answer in words"), None
    entry = server.ended(answer["prompt_id"])
    kind, body = entry["status"]["messages"][-1]
    if kind == "execution_error":
        return ("failed in words of ours" if is_ours(body, graph) else "failed in the host's nodes"), body
    return kind.removeprefix("execution_"), None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, fuzzed(Path(folder) / "base") as server:
        started = time.monotonic()
        seen = fuzz(server, asked.graphs, asked.seed, lambda text: print(text, flush=True))
    print(f"seed {asked.seed}, {time.monotonic() - started:.0f} s\n{seen.report()}")
    return bool(seen.wrong or seen.worst < 90)


def fuzzed(base: Path) -> Any:
    """A server with the odd things in it, and with the way of caching that forgets what the last graph did not use."""
    (base / "custom_nodes").mkdir(parents=True)
    (base / "custom_nodes" / "odd_things.py").symlink_to(Path(__file__).with_name("odd_things.py"))
    return serve(comfyui(), base, "--cache-classic")


if __name__ == "__main__":
    sys.exit(main())
