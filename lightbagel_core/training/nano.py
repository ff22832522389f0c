"""Trains the nano from nothing: python -m lightbagel_core.training.nano --out DIR

Three stages, each resumable: the VLM, then frozen; the VAE, then frozen; then DiT, fusion stack and context. Running
the same command again goes on where it stopped. The finished checkpoint lies in DIR/nano.
"""

from __future__ import annotations

import argparse
import platform
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..checkpoint import save_parts
from ..config import Defaults, ImageRule, LightBagelConfig
from ..fusion import FusionStack
from ..generation import Generation
from ..understanding import Understanding
from . import dit, vae, vlm
from .loop import Training
from .world import SIZE


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"


def nano_config(
    und: Understanding, gen: Generation, fusion: FusionStack, vae_config: dict[str, Any], record: dict[str, Any]
) -> LightBagelConfig:
    return LightBagelConfig(
        name="nano",
        understanding=vlm.config(und.tokenizer),
        processor={"min_pixels": vlm.VIT_SIDE**2, "max_pixels": vlm.VIT_SIDE**2},
        generation=dit.CONFIG,
        vae={key: vae_config[key] for key in vae.CONFIG},
        fusion=fusion.config,
        vae_image=ImageRule(long=SIZE, short=SIZE // 2, stride=32),
        vit_image=ImageRule(long=vlm.VIT_SIDE, short=vlm.VIT_SIDE // 2, stride=28),
        defaults=Defaults(width=SIZE, height=SIZE, steps=20),
        metadata=record,
    )


def finish(
    out: Path,
    und: Understanding,
    gen: Generation,
    fusion: FusionStack,
    stages: dict[str, Training],
    vae: Any,
    seed: int,
) -> None:
    record = {
        "seed": seed,
        "hardware": hardware(),
        "torch": torch.__version__,
        "stages": {name: {"steps": s.step, "minutes": round(s.seconds / 60, 1)} for name, s in stages.items()},
    }
    config = nano_config(und, gen, fusion, dict(vae.config), record)
    save_parts(out / "nano", config, und, gen, fusion, vae, torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dit-steps", type=int, default=dit.RECIPE.steps, help="length of the last stage's schedule")
    parser.add_argument("--no-compile", action="store_true", help="train without torch.compile (no C++ compiler)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16")
    und, vlm_stage = vlm.train(args.out, args.seed, accelerator, vlm.RECIPE)
    autoencoder, vae_stage = vae.train(args.out, args.seed, accelerator, vae.RECIPE)
    # On a CPU the fused attention's backward is several times slower than plain matrix products at these lengths.
    attention = nullcontext() if accelerator.device.type == "cuda" else sdpa_kernel(SDPBackend.MATH)
    with attention:
        gen, fusion, dit_stage = dit.train(
            args.out,
            args.seed,
            und,
            autoencoder,
            accelerator,
            replace(dit.RECIPE, steps=args.dit_steps),
            compiled=not args.no_compile,
        )
    stages = {"vlm": vlm_stage, "vae": vae_stage, "dit": dit_stage}
    finish(args.out, und, gen, fusion, stages, autoencoder, args.seed)


if __name__ == "__main__":
    main()
