"""One denoising step with guidance: python -m benchmarks.step [--sizes 512 1024] [--threads 1 2] [--device cuda]

Ours, diffusers' plain Wan transformer on the same rows and tokens, and the naive step (it encodes each branch anew and
runs them one after another), in turns. `…_predicted` is what the operation counts say of a ratio (see flops.py),
`floor_ms` the operations of our step at the rate of large matrix products, measured in the same run.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from lightbagel_core.pipeline import LightBagel

from . import flops
from .models import compile_both, model_for, plain_wan
from .runs import drawing, naive_velocity, step_flops, target_tokens, wan_flops, wan_velocity
from .timing import about, interleaved, launches, options, peak_bytes, ratio, rounds_within, table, write_json

TIME = 0.7  # of the flow, where guidance acts
BUDGET = 6.0  # seconds of measuring for each row


@torch.no_grad()
def row(model: LightBagel, wan: WanTransformer3DModel, size: int, rounds: int | None) -> dict[str, Any]:
    device, work = model.device, drawing(model, size)
    context, x = model.encode(work.samples, size, size), work.noised
    ways = {
        "ours": lambda: model.velocity(x, TIME, context),
        "wan": lambda: wan_velocity(model, wan, x, TIME),
        "naive": lambda: naive_velocity(model, work, work.noise, TIME),
    }
    taken = interleaved(ways, rounds or rounds_within(BUDGET, ways, device), device)
    middle = {name: statistics.median(each) for name, each in taken.items()}
    count = step_flops(model, work)
    predicted = count / wan_flops(model, work)
    floor = count / flops.matrix_rate(device, model.gen.dtype)
    return {
        "size": size,
        "tokens": target_tokens(model, work),
        **{f"{name}_ms": 1000 * seconds for name, seconds in middle.items()},
        "ours_over_wan": ratio(taken, "ours", "wan"),
        "ours_over_wan_predicted": predicted,
        "over_predicted": ratio(taken, "ours", "wan") / predicted,
        "naive_over_ours": ratio(taken, "naive", "ours"),
        "floor_ms": 1000 * floor,
        "ours_over_floor": middle["ours"] / floor,
        **{
            f"{name}_{what}": n
            for name in ("ours", "wan")
            for what, n in launches(ways[name], device, model.compiled).items()
        },
        "peak_gb": peak_bytes(ways["ours"], device) / 1e9,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", help="pixels of a side")
    parser.add_argument("--threads", type=int, nargs="+", help="of the CPU; default: 1 and 2")
    parser.add_argument("--compile", action="store_true", help="compile what repeats, in plain Wan's blocks, too")
    args = parser.parse_args()
    on_cpu = args.device.type != "cuda"
    model = model_for(args.device)
    wan = plain_wan(model)
    if args.compile:
        compile_both(model, wan)
    rows = []
    for threads in args.threads or ([1, 2] if on_cpu else [torch.get_num_threads()]):
        torch.set_num_threads(threads)
        for size in args.sizes or ([128, 256, 512, 1024] if on_cpu else [512, 1024, 1536, 2048]):
            rows.append({"threads": threads, **row(model, wan, size, args.rounds)})
    print(f"{model.config.name}, {args.device.type}, {model.gen.dtype}: one step of two branches")
    print(table(rows))
    write_json(args.json, {"model": model.config.name, **about(args.device), "rows": rows})


if __name__ == "__main__":
    main()
