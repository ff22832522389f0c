"""A step and a run in ComfyUI against the command line's: COMFYUI_PATH=... python -m benchmarks.comfyui [--threads 1]

The same nano work, two branches of guidance by Euler's method, in one process and in turns: the core's own run on
diffusers' Wan, KSampler on our MODEL, KSampler on ComfyUI's plain Wan with a text of the learned context's length.
Attention is torch's in all of them, as ComfyUI has it on CUDA; on a CPU it would take another unless started with
--use-pytorch-cross-attention. Prompts are encoded before in ComfyUI and within a run of the core, as both do; the VAE
is left out. Each is run with few and with many steps: a step is what a step more costs, `overhead_ms` what a run costs
beside its steps. `pack_overhead_ms` is that of our MODEL less that of the plain Wan. Needs what tests/comfy needs.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from lightbagel_core.sampling.guidance import Guidance

from .models import model_for
from .timing import about, interleaved, options, table, write_json

TESTS = Path(__file__).resolve().parents[1] / "tests" / "comfy"
FEW, MANY = 4, 24
GUIDANCE = 2.0
PROMPT, NEGATIVE = "a red circle left of a blue square", ""
CPU = torch.device("cpu")


def plain(model: Any) -> Any:
    """ComfyUI's Wan under a MODEL of ours, without what the pack attached."""
    bare = model.clone()
    bare.wrappers, bare.object_patches, bare.additional_models = {}, {}, {}
    return bare


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="pixels of a side")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sys.path.insert(0, str(TESTS))
    import helpers
    from conftest import Host, comfyui

    sys.path.insert(0, str(comfyui()))
    from comfy.cli_args import args as started_with

    started_with.use_pytorch_cross_attention = True
    host, core = Host(), model_for(CPU)
    model, clip, _ = host("LightBagelLoader", checkpoint="nano (built in)", weight_dtype="float32")
    prompts = [host("CLIPTextEncode", clip, words) for words in (PROMPT, NEGATIVE)]
    fusion = core.config.fusion
    texts = [[[torch.randn(1, fusion.context_len, fusion.context_dim), {}]] for _ in range(2)]
    wan = plain(model)
    words: dict[str, Any] = {"full": [[core.text(PROMPT)]], "negative": [[core.text(NEGATIVE)]]}
    rows = []
    for size in args.sizes:
        noise, latent = core.noise(1, size, size, 0), helpers.empty(side=size)

        def run(way: str, steps: int, noise: torch.Tensor = noise, latent: Any = latent) -> Any:
            if way == "core":
                return core.draw(words, noise, Guidance(GUIDANCE), steps=steps, solver="euler", progress=False)
            used, conditions = (model, prompts) if way == "ours" else (wan, texts)
            return helpers.ksampler(host, used, conditions, latent, steps=steps)

        calls = {
            f"{way} {steps}": lambda way=way, steps=steps: run(way, steps)
            for way in ("core", "ours", "wan")
            for steps in (FEW, MANY)
        }
        times = interleaved(calls, args.rounds or 15, CPU)
        step, overhead = {}, {}
        for way in ("core", "ours", "wan"):
            pairs = list(zip(times[f"{way} {FEW}"], times[f"{way} {MANY}"], strict=True))
            step[way] = [(many - few) / (MANY - FEW) for few, many in pairs]
            overhead[way] = statistics.median(few - FEW * each for (few, _), each in zip(pairs, step[way], strict=True))
        rows.append(
            {
                "size": size,
                "threads": args.threads,
                **{f"{way}_step_ms": 1000 * statistics.median(each) for way, each in step.items()},
                "ours_over_core": statistics.median(a / b for a, b in zip(step["ours"], step["core"], strict=True)),
                **{f"{way}_overhead_ms": 1000 * each for way, each in overhead.items()},
                "pack_overhead_ms": 1000 * (overhead["ours"] - overhead["wan"]),
            }
        )
    print(table(rows))
    write_json(args.json, {**about(CPU), "rows": rows})


if __name__ == "__main__":
    main()
