"""A training step: python -m benchmarks.training [--models nano middle] [--threads 1] [--bfloat16] [--math]

Forward and backward of DiT, fusion stack and learned context on a batch, the VLM's states given, over the same of
diffusers' plain Wan transformer on as many noised pictures of the size, its text as long as the learned context; in
turns. `…_predicted` is what the operation counts say of that ratio (see flops.py), `over_predicted` what was measured
over it. The optimiser, which is the same for every weight, is left out. On a CPU with --threads 1 time is the
processor's, which other programs disturb less.

drawings: a text a sample. edits: one source picture each, by clean latents and by ViT tokens, and a text.

The models' weights are random, in float32. nano: the nano's numbers. middle: between those and the published size's.
wide: the published widths at 1024 x 1024 pixels, but few blocks; for a card.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightbagel_core.config import PUBLISHED, ImageRule, LightBagelConfig
from lightbagel_core.files.components import build_components
from lightbagel_core.files.formats import read_config
from lightbagel_core.training.nano.shape import nano_config

from . import core, flops
from .measure import interleaved, options, parsed, ratio, report

WORDS = 14  # und tokens of a text, its markers included


@dataclass(frozen=True)
class Size:
    """A model, and the batch it is trained on: so many samples of square pictures of so many pixels."""

    config: LightBagelConfig
    pixels: int
    samples: int


def nano() -> Size:
    return Size(nano_config()[0], 128, 32)


def middle() -> Size:
    """Widths a sixth of the published ones, 12 blocks."""
    config, _ = nano_config()
    und, gen = config.understanding, config.generation
    und["text_config"] |= {"hidden_size": 512, "num_hidden_layers": 10, "num_attention_heads": 8}
    gen |= {"num_attention_heads": 4, "num_layers": 12, "ffn_dim": 2304, "text_dim": 512}
    fusion = replace(
        config.fusion, layers=11, und_layers=10, und_dim=512, gen_dim=512, heads=4, context_len=64, context_dim=512
    )
    return Size(replace(config, name="middle", fusion=fusion, vit_image=ImageRule(224, 112, 28)), 256, 8)


def wide() -> Size:
    """The published widths, 5 blocks."""
    config = read_config(PUBLISHED)
    config.understanding["text_config"]["num_hidden_layers"] = 4
    config.generation["num_layers"] = 5
    return Size(replace(config, name="wide", fusion=replace(config.fusion, layers=4, und_layers=4)), 1024, 8)


SIZES: dict[str, Callable[[], Size]] = {"nano": nano, "middle": middle, "wide": wide}


def step(root: nn.Module, loss: Callable[[], Tensor], within: Callable[[], AbstractContextManager[Any]]) -> None:
    """Forward and backward of a module's loss; its gradients are made anew."""
    root.zero_grad(set_to_none=True)
    with within():
        value = loss()
    value.backward()


def wan_loss(wan: WanTransformer3DModel, noised: Tensor, times: Tensor, text: Tensor, target: Tensor) -> Tensor:
    drawn = wan(hidden_states=noised[:, :, None], timestep=times, encoder_hidden_states=text).sample[:, :, 0]
    return (drawn.float() - target).square().mean()


def steps(
    size: Size, sources: int, device: torch.device, within: Callable[[], AbstractContextManager[Any]]
) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """What is compared, and the operations of each."""
    torch.manual_seed(0)
    config = size.config
    parts = build_components(config, ("generation", "fusion"))
    wan = build_components(config, ["generation"])["generation"].to(device)
    for module in parts.values():
        module.to(device)
    batch = core.training_batch(config, size.pixels, size.samples, sources, WORDS)
    drawing, constants = core.drawing(parts["generation"], parts["fusion"]), core.batch_constants(batch)
    tokens = batch.tokens(config.generation["patch_size"][-1])[0]  # of every target
    targets = torch.stack([sample.target for sample in batch.samples]).to(device)
    text = torch.randn(size.samples, config.fusion.context_len, config.fusion.context_dim, device=device)
    times = 1000 * batch.t.to(device)
    losses = {
        "ours": (drawing, lambda: drawing(batch).sum() / (tokens * size.samples)),
        "wan": (wan, partial(wan_loss, wan, torch.randn_like(targets), times, text, targets)),
    }
    counts = {
        "ours": flops.training(config, constants, tokens),
        "wan": flops.wan_training(config, size.samples, tokens),
    }
    return {name: partial(step, root, loss, within) for name, (root, loss) in losses.items()}, counts


def measured(
    name: str, sources: int, device: torch.device, rounds: int, within: Callable[[], AbstractContextManager[Any]]
) -> dict[str, Any]:
    size = SIZES[name]()
    calls, counts = steps(size, sources, device, within)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    taken = interleaved(calls, rounds, device, time.process_time if alone else time.perf_counter)
    found, predicted = ratio(taken, "ours", "wan"), counts["ours"] / counts["wan"]
    return {
        "model": name,
        "batch": f"{size.samples} {'edits' if sources else 'drawings'}",
        **{f"{call}_ms": 1000 * statistics.median(each) for call, each in taken.items()},
        "ours_gflop": counts["ours"] / 1e9,
        "ours_over_wan": found,
        "ours_over_wan_predicted": predicted,
        "over_predicted": found / predicted,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=["nano", "middle"])
    parser.add_argument("--bfloat16", action="store_true", help="under autocast, as bfloat16-mixed trains")
    parser.add_argument("--math", action="store_true", help="attention as plain matrix products")
    args = parsed(parser)

    def within() -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(torch.autocast(args.device.type, torch.bfloat16, enabled=args.bfloat16))
        if args.math:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        return stack

    rows = [measured(name, sources, args.device, args.rounds, within) for name in args.models for sources in (0, 1)]
    report(args, f"a training step{', bfloat16' * args.bfloat16}{', attention as products' * args.math}", rows)


if __name__ == "__main__":
    main()
