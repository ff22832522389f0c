"""Measures steps of one checkout of this project when it is told to; see `benchmarks.step --against` and `--comfyui`.

It runs as a program of its own that imports nothing of this folder, so that it measures whichever checkout it is given,
by what all of them have: `LightBagel`'s methods, and in ComfyUI the pack's nodes and the stock ones.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEW, MANY = 4, 24  # steps of the runs whose difference is that of the steps between
TIMES = 10  # that a step is repeated in one turn
PROMPT, NEGATIVE, INSTRUCTION = "a red circle left of a blue square", "", "make the circle blue"
Figures = dict[str, float]  # seconds of a step, of what a run costs beside its steps; the norm of what was computed
clock = time.perf_counter  # with one thread the processor's time instead, which other programs disturb less


def in_comfyui(tree: Path, comfyui: Path) -> tuple[Any, Any]:
    """ComfyUI in this process with a checkout's pack in it: what runs its nodes by id, and the helpers of tests/comfy.

    Attention is torch's, as ComfyUI has it on CUDA; on a CPU it would take another unless started with
    --use-pytorch-cross-attention.
    """
    os.environ["COMFYUI_PATH"] = str(comfyui)
    sys.path[:0] = [str(comfyui), str(tree / "tests" / "comfy")]
    import helpers
    from comfy.cli_args import args
    from conftest import Host

    args.use_pytorch_cross_attention = True
    return Host(), helpers


def norm(made: Any) -> float:
    import numpy as np

    return float(np.linalg.norm(np.asarray(made, float)))


def a_step(step: Callable[[], Any]) -> Callable[[], Figures]:
    """A case of a step that is repeated `TIMES`."""

    def case() -> Figures:
        began = clock()
        for _ in range(TIMES):
            made = step()
        return {"step": (clock() - began) / TIMES, "norm": norm(made)}

    return case


def a_run(run: Callable[[int], Any]) -> Callable[[], Figures]:
    """A case of a run of a given number of steps: a step is what each of `MANY` takes beyond `FEW`."""

    def case() -> Figures:
        began = clock()
        run(FEW)
        few = clock() - began
        made = run(MANY)
        step = (clock() - began - 2 * few) / (MANY - FEW)
        return {"step": step, "overhead": few - FEW * step, "norm": norm(made)}

    return case


def core_cases(size: int, picture: Any) -> dict[str, Callable[[], Figures]]:
    from lightbagel_core import LightBagel

    model = LightBagel.from_pretrained("nano", "cpu")
    seen = [model.clean(picture), model.vit(picture)]
    drawing = [[model.text(PROMPT)], [model.text(NEGATIVE)]]
    edit = [[*seen, model.text(INSTRUCTION)], [*seen, model.text(NEGATIVE)], [model.text(INSTRUCTION)]]
    two, three = (model.noise(count, size, size, 0) for count in (2, 3))
    prompted, edited = model.encode(drawing, size, size), model.encode(edit, size, size)
    settings = {"width": size, "height": size, "text_guidance": 2.0, "solver": "euler", "progress": False}
    return {
        "core, step of a drawing": a_step(lambda: model.velocity(two, 0.7, prompted)),
        "core, step of an edit": a_step(lambda: model.velocity(three, 0.7, edited)),
        "core, encode and step of an edit": a_step(lambda: model.velocity(three, 0.7, model.encode(edit, size, size))),
        "core, drawing": a_run(lambda steps: model.generate(PROMPT, steps=steps, **settings)[0]),
    }


def comfyui_cases(tree: Path, comfyui: Path, size: int, picture: Any) -> dict[str, Callable[[], Figures]]:
    """Prompts are encoded before. The plain Wan has nothing of the pack, and a text as long as the learned context."""
    import torch

    host, helpers = in_comfyui(tree, comfyui)
    model, clip, vae = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")
    plain = model.clone()
    plain.wrappers, plain.object_patches, plain.additional_models = {}, {}, {}  # what the pack attached
    seen = {"vae": vae, "images": {"image": helpers.tensor(picture)}}
    drawing = [host("CLIPTextEncode", clip, text) for text in (PROMPT, NEGATIVE)]
    edit = [host("LightBagelTextEncode", clip, text, **seen) for text in (INSTRUCTION, NEGATIVE)]
    from lightbagel_core.config import NANO

    fusion = json.loads((NANO / "config.json").read_text(encoding="utf-8"))["fusion"]
    torch.manual_seed(0)
    texts = [[[torch.randn(1, fusion["context_len"], fusion["context_dim"]), {}]] for _ in range(2)]

    latent = helpers.empty(side=size)
    frame = {"samples": latent["samples"].reshape(1, -1, 1, size // 16, size // 16)}  # Wan itself draws videos

    def case(used: Any, prompts: Any) -> Callable[[], Figures]:
        empty = frame if used is plain else latent
        return a_run(lambda steps: helpers.ksampler(host, used, prompts, empty, steps=steps))

    works = {"drawing": (model, drawing), "edit": (model, edit), "plain Wan": (plain, texts)}
    return {f"ComfyUI, {name}": case(*work) for name, work in works.items()}


def main(tree: Path, comfyui: str, threads: int, size: int) -> None:
    """Writes the names of its cases, then for each name it reads one measurement, all as lines of JSON."""
    global clock
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # ComfyUI writes there
    sys.path[0] = str(tree)  # in place of this folder
    import numpy as np
    import torch
    from PIL import Image

    clock = time.process_time if threads == 1 else time.perf_counter
    torch.set_num_threads(threads)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))
    cases = core_cases(size, picture)
    if comfyui:
        cases |= comfyui_cases(tree, Path(comfyui), size, picture)
    print(json.dumps(list(cases)), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(cases[line.strip()]()), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
