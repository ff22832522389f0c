"""Trains the nano from nothing: python -m lightbagel_core.training.nano --out DIR

Three stages, each resumable: the VLM, then frozen; the VAE, then frozen; then DiT, fusion stack and context. Running
the same command again goes on where it stopped. The finished checkpoint lies in DIR/nano. With --start the
stages begin from a checkpoint's weights instead of from nothing; a stage of 0 steps keeps them as they are.
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

from ...config import Defaults, ImageRule, LightBagelConfig, Preview
from ...files.checkpoint import save_components
from ...files.components import COMPONENTS
from ...model.fusion import FusionStack
from ...model.generation import Generation
from ...model.understanding import Understanding
from ...pipeline import LightBagel
from ...world.scenes import SIZE
from ..loop import Training
from . import dit_recipe as dit
from . import vae_recipe as vae
from . import vlm_recipe as vlm


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"


def nano_config(
    und: Understanding,
    gen: Generation,
    fusion: FusionStack,
    vae_config: dict[str, Any],
    preview: Preview,
    record: dict[str, Any],
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
        defaults=Defaults(width=SIZE, height=SIZE, steps=20, text_guidance=2.0, edit_text_guidance=1.25),
        preview=preview,
        metadata=record,
    )


def finish(
    out: Path,
    und: Understanding,
    gen: Generation,
    fusion: FusionStack,
    stages: dict[str, Training],
    autoencoder: Any,
    args: argparse.Namespace,
) -> None:
    record = {
        "seed": args.seed,
        "started_from": args.start or "nothing",
        "hardware": hardware(),
        "torch": torch.__version__,
        "stages": {name: {"steps": s.step, "minutes": round(s.seconds / 60, 1)} for name, s in stages.items()},
    }
    preview = vae.preview(autoencoder, args.seed)
    config = nano_config(und, gen, fusion, dict(autoencoder.config), preview, record)
    save_components(out / "nano", config, und, gen, fusion, autoencoder, torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", help='a checkpoint folder, or "nano" for the built-in one')
    for name, stage in (("vlm", vlm), ("vae", vae), ("dit", dit)):
        parser.add_argument(f"--{name}-steps", type=int, default=stage.RECIPE.steps, help="length of that schedule")
    parser.add_argument("--no-compile", action="store_true", help="train without torch.compile (no C++ compiler)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16")
    start = LightBagel.from_pretrained(args.start, accelerator.device, torch.float32) if args.start else None
    if start is not None:
        start.need(*COMPONENTS)
    # On a CPU the fused attention's backward is several times slower than plain matrix products at these lengths.
    with nullcontext() if accelerator.device.type == "cuda" else sdpa_kernel(SDPBackend.MATH):
        recipe = replace(vlm.RECIPE, steps=args.vlm_steps)
        und, vlm_stage = vlm.train(args.out, args.seed, accelerator, recipe, start)
        recipe = replace(vae.RECIPE, steps=args.vae_steps)
        autoencoder, vae_stage = vae.train(args.out, args.seed, accelerator, recipe, start)
        recipe = replace(dit.RECIPE, steps=args.dit_steps)
        gen, fusion, dit_stage = dit.train(
            args.out, args.seed, und, autoencoder, accelerator, recipe, not args.no_compile, start
        )
    stages = {"vlm": vlm_stage, "vae": vae_stage, "dit": dit_stage}
    finish(args.out, und, gen, fusion, stages, autoencoder, args)


if __name__ == "__main__":
    main()
