"""Writes docs/sweep.md from the sweep's results."""

from __future__ import annotations

import platform
from collections import Counter
from typing import Any

from .expect import CRASHED, NOT_FOR, NOTHING, REFUSED, UNCHECKED, WORKS, WRONG

CLASSES = {
    WORKS: "what is expected was checked",
    REFUSED: "a sentence says what is wrong and what to do, ours or the host's",
    NOT_FOR: "the node needs other files or is another model's, and does here what it does to Flux or native Wan",
    UNCHECKED: "it ended; nothing more is known",
    NOTHING: "the picture should change and does not, without a word",
    WRONG: "something else came than what is expected, without a word",
    CRASHED: "an error that says nothing to a person",
}
HEAD = """# Every stock node on LightBagel

Each node of ComfyUI's own with a socket of MODEL, CLIP, VAE, CONDITIONING, LATENT, GUIDER, SAMPLER, SIGMAS, NOISE or
MASK stands in its natural place on the nano, and each row says what is expected of it. Written by

```
make sweep
```

with ComfyUI {comfyui}, torch {torch} and Python {python}, on a CPU. The expectations stand in `tests/comfy/sweep/`,
whose `expected.json` holds each row's class: a row that gets worse fails `tests/comfy/test_sweep.py`, which runs the
first row of every node. Where a node is another model's, the same node is put on a small Flux and on native Wan as
well, and counts as *{not_for}* if they take it no better.

| class | rows | |
| --- | --- | --- |
{counts}

"""


def written(results: list[dict[str, Any]], comfyui: str, torch: str) -> str:
    """The page."""
    count = Counter(one["class"] for one in results)
    counts = "\n".join(f"| {name} | {count[name]} | {meaning} |" for name, meaning in CLASSES.items())
    text = HEAD.format(
        comfyui=comfyui, torch=torch, python=platform.python_version(), counts=counts, not_for=NOT_FOR
    )  # fmt: skip
    parts = []
    for room in dict.fromkeys(one["room"] for one in results):
        rows = sorted((one for one in results if one["room"] == room), key=lambda one: one["row"].lower())
        lines = "\n".join(line(one) for one in rows)
        parts.append(f"## {room}\n\n| node | expected | class | seen |\n| --- | --- | --- | --- |\n{lines}\n")
    return text + "\n".join(parts)


def line(one: dict[str, Any]) -> str:
    seen = one["note"] + (f" **Exception:** {one['exception']}" if one.get("exception") else "")
    cells = (one["row"], one["expected"], one["class"], seen)
    return "| " + " | ".join(clean(cell) for cell in cells) + " |"


def clean(words: str) -> str:
    """Words that do not break a table."""
    return words.replace("|", "/").replace("<", "&lt;").replace("\n", " ").strip()
