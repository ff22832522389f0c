"""A whole run, ours against the naive one and a plain Wan's: what `image` and `edit` have in common.

From given parts to latents: the VAE, and the ViT on source pictures, are the same and left out. Ratios are medians
over rounds taken in turns, `…_predicted` is what the operation counts say of them (see flops.py).
`floor_s` is all operations of our run at the rate of large matrix products, measured in the same run; `share_of_rate`
how much of that rate the run reaches. Forwards are those of one picture, operators or kernels those of one step.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from lightbagel_core.pipeline import LightBagel

from . import flops
from .models import compile_both, model_for, plain_wan
from .runs import Work, forwards, naive, naive_flops, ours, ours_flops, plain, wan_flops
from .timing import about, interleaved, launches, options, peak_bytes, ratio, rounds_within, table, write_json

BUDGET = 8.0  # seconds of measuring for each row


@torch.no_grad()
def row(model: LightBagel, wan: WanTransformer3DModel, work: Work, steps: int, rounds: int | None) -> dict[str, Any]:
    device, pictures = model.device, len(work.noise)
    ways = {
        "ours": lambda: ours(model, work, steps),
        "wan": lambda: plain(model, wan, work, steps),
        "naive": lambda: naive(model, work, steps),
    }
    taken = interleaved(ways, rounds or rounds_within(BUDGET, ways, device), device)
    seconds = statistics.median(taken["ours"])
    count = ours_flops(model, work, steps)
    floor = count / flops.matrix_rate(device, model.gen.dtype)
    with forwards(model) as counted:
        ways["ours"]()
    context, x = model.encode(work.samples, work.size, work.size), work.noised
    launched = launches(lambda: model.velocity(x, 1.0, context), device, model.compiled)
    return {
        "size": work.size,
        "pictures": pictures,
        "steps": steps,
        "ours_s": seconds,
        "ours_s_per_image": seconds / pictures,
        "wan_s": statistics.median(taken["wan"]),
        "naive_s": statistics.median(taken["naive"]),
        "ours_over_wan": ratio(taken, "ours", "wan"),
        "ours_over_wan_predicted": count / (steps * wan_flops(model, work)),
        "naive_over_ours": ratio(taken, "naive", "ours"),
        "naive_over_ours_predicted": naive_flops(model, work, steps) / count,
        "floor_s": floor,
        "ours_over_floor": seconds / floor,
        "share_of_rate": floor / seconds,
        **{name: number / pictures for name, number in counted.items()},
        **{f"step_{what}": n for what, n in launched.items()},
        "peak_gb": peak_bytes(ways["ours"], device) / 1e9,
    }


def arguments(text: str | None, growth: str) -> argparse.Namespace:
    parser = options(text)
    parser.add_argument("--size", type=int, help="pixels of a side; default: the model's own")
    parser.add_argument("--steps", type=int, help="default: the model's own; 3 for what grows")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own")
    parser.add_argument("--growth", action="store_true", help=growth)
    parser.add_argument("--compile", action="store_true", help="compile what repeats, in plain Wan's blocks, too")
    parser.add_argument("--graphs", action="store_true", help="also replay our steps as CUDA graphs")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def report(args: argparse.Namespace, model: LightBagel, what: str, work: Work, growth: Mapping[str, Work]) -> None:
    """Measures the run itself, then what grows (of few steps), and prints and writes both."""
    default = model.config.defaults
    wan = plain_wan(model)
    if args.compile or args.graphs:
        compile_both(model, wan, args.graphs)
    figures = row(model, wan, work, args.steps or default.steps, args.rounds)
    print(f"{model.config.name}, {args.device.type}, {model.gen.dtype}, threads: {torch.get_num_threads()}: {what}")
    print(table([figures]))
    rows = [{"case": name, **row(model, wan, each, args.steps or 3, args.rounds)} for name, each in growth.items()]
    if rows:
        print(table(rows))
    head = {"model": model.config.name, **about(args.device), "threads": torch.get_num_threads()}
    write_json(args.json, {**head, **figures, "growth": rows})


def model_and_size(args: argparse.Namespace) -> tuple[LightBagel, int]:
    model = model_for(args.device)
    return model, args.size or model.config.defaults.width
