"""One denoising step with guidance: python -m benchmarks.step [--sizes 512 1024] [--threads 1] [--compile]

Ours, diffusers' plain Wan transformer on the same rows and tokens, and the naive step (it encodes each branch anew and
runs them one after another), in turns. `…_predicted` is what the operation counts say of a ratio (see flops.py).

With one of these the nano's steps are measured on the CPU by processes of their own (see worker.py); with one thread
by the processor's time, which other programs disturb less:

--comfyui PATH: steps and runs in a ComfyUI beside the command line's, in turns in one process. `over_core` is a step
over one of the command line's runs, `overhead_ms` what a run costs beside its steps; what the pack adds is that of a
drawing less that of the plain Wan. Needs what tests/comfy needs.

--against TREE: steps of another checkout of this project and of this one, in turns. Medians, and the quartiles of what
ours took over what the other took in the same round. `norm_off` is how far the norms of what they computed are apart.
With --comfyui PATH in ComfyUI, too; the plain Wan there has nothing of ours and shows what the noise is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from lightbagel_core.pipeline import LightBagel

from . import worker
from .measure import interleaved, options, parsed, ratio, report
from .models import model_for, plain_wan
from .ways import Operations, generate, naive_velocity, wan_velocity

HERE = Path(__file__).resolve().parents[1]
TIME = 0.7  # of the flow, where guidance acts


@torch.no_grad()
def step(model: LightBagel, wan: WanTransformer3DModel, size: int, rounds: int) -> dict[str, Any]:
    device, work = model.device, generate(model, size)
    context, x = model.encode(work.samples, size, size), work.noised
    ways = {
        "ours": lambda: model.velocity(x, TIME, context),
        "wan": lambda: wan_velocity(model, wan, x, TIME),
        "naive": lambda: naive_velocity(model, work, work.noise, TIME),
    }
    taken = interleaved(ways, rounds, device)
    middle = {name: statistics.median(each) for name, each in taken.items()}
    count = Operations.of(model, work)
    return {
        "size": size,
        **{f"{name}_ms": 1000 * seconds for name, seconds in middle.items()},
        "ours_over_wan": ratio(taken, "ours", "wan"),
        "ours_over_wan_predicted": count.ours / count.wan,
        "naive_over_ours": ratio(taken, "naive", "ours"),
    }


Rounds = dict[str, list[list[worker.Figures]]]  # by case, for each round the figures of each checkout


def in_turns(trees: list[Path], args: argparse.Namespace, size: int) -> Rounds:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        rest = [str(args.comfyui or ""), str(torch.get_num_threads()), str(size)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "encoding": "utf-8", "bufsize": 1}
        workers: list[Any] = [
            subprocess.Popen([sys.executable, worker.__file__, str(tree), *rest], **pipes)  # type: ignore[call-overload]
            for tree in trees
        ]

        def answer(process: Any, asked: str = "") -> Any:
            if asked:
                process.stdin.write(asked + "\n")
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise SystemExit(f"a worker died: {log.read()[-2000:]}")
            return json.loads(line)

        cases = [answer(process) for process in workers][-1]
        rounds = [{case: [answer(each, case) for each in workers] for case in cases} for _ in range(1 + args.rounds)]
        for process in workers:
            process.communicate()
        return {case: [each[case] for each in rounds[1:]] for case in cases}  # the first warms up


def compared(args: argparse.Namespace, size: int) -> list[dict[str, Any]]:
    """Rows of steps in a ComfyUI beside the core's, or of both checkouts'."""
    rows, found = [], in_turns([args.against, HERE] if args.against else [HERE], args, size)
    for case, rounds in found.items():
        row: dict[str, Any] = {"size": size, "case": case}
        each_ms = [1000 * statistics.median(each["step"] for each in of_tree) for of_tree in zip(*rounds, strict=True)]
        if args.against:
            low, middle, high = statistics.quantiles([after["step"] / before["step"] for before, after in rounds], n=4)
            row |= {"before_ms": each_ms[0], "after_ms": each_ms[1], "after_over_before": middle}
            off = abs(rounds[-1][1]["norm"] / rounds[-1][0]["norm"] - 1)
            row |= {"lower": low, "upper": high, "norm_off": off}
        else:
            pairs = zip(rounds, found["core, drawing"], strict=True)
            row |= {"step_ms": each_ms[0], "over_core": statistics.median(a["step"] / b["step"] for [a], [b] in pairs)}
            row |= {"overhead_ms": 1000 * statistics.median(each.get("overhead", 0.0) for [each] in rounds)}
        rows.append(row)
    return rows


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", help="pixels of a side")
    parser.add_argument("--compile", action="store_true", help="compile what repeats, in plain Wan's blocks, too")
    parser.add_argument("--comfyui", type=Path, metavar="PATH", help="a ComfyUI")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout of this project")
    args = parsed(parser)
    args.comfyui, args.against = (path and path.resolve() for path in (args.comfyui, args.against))
    if args.against or args.comfyui:
        rows = [row for size in args.sizes or [128] for row in compared(args, size)]
        return report(args, f"the nano, float32: steps{' in two checkouts' if args.against else ''}", rows)
    model = model_for(args.device)
    wan = plain_wan(model)
    if args.compile:
        model.compile()
        wan.compile_repeated_blocks(fullgraph=True)
    sizes = args.sizes or ([128, 256, 512] if args.device.type != "cuda" else [512, 1024, 1536, 2048])
    rows = [step(model, wan, size, args.rounds) for size in sizes]
    report(args, f"{model.config.name}, {model.gen.dtype}: a step of two branches", rows)


if __name__ == "__main__":
    main()
