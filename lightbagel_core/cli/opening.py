"""The model that the command line's options name, opened."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import COMPONENTS, MODEL_DTYPES

if TYPE_CHECKING:
    import torch

    from ..files.formats import Opened
    from ..pipeline import LightBagel


def files_of(args: argparse.Namespace, need: Sequence[str] = COMPONENTS) -> Opened:
    """The model that --model and its sisters name: the nano if they name nothing.

    Raises:
        ValueError: as `open_model`; or a LoRA is named, and neither component that it could change is needed.
    """
    from ..config import NANO
    from ..files.formats import open_model

    if args.lora and not {"generation", "fusion"}.intersection(need):
        raise ValueError(
            "--lora changes nothing here: LoRAs are added to the DiT and the fusion stack, which draw pictures, and "
            "neither is used; leave it out"
        )
    loras = dict(args.lora)
    if len(loras) < len(args.lora):
        raise ValueError("--lora names a file twice; name it once, with the strength that both add up to")
    given = {name: getattr(args, name) for name in COMPONENTS if getattr(args, name) is not None}
    name = args.model or ("nano" if not given else None)
    checkpoint = NANO if name == "nano" else Path(name) if name else None
    return open_model(
        checkpoint, components=given, tokenizer=args.tokenizer, config=args.config, need=need, loras=loras
    )


def device_of(args: argparse.Namespace) -> torch.device:
    import torch

    from ..files.precision import default_device

    try:
        device = torch.device(args.device) if args.device else default_device()
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {args.device!r} does not work here: {str(error).splitlines()[0]}") from None
    return device


def how_of(args: argparse.Namespace, opened: Opened) -> dict[str, Any]:
    """Where and in what an opened model is to compute."""
    import torch

    device = device_of(args)
    dtype = getattr(torch, MODEL_DTYPES[args.dtype]) if args.dtype else None
    return {"device": device, "dtype": dtype, "offload": offload_of(args, opened, device, dtype)}


def open_model_of(args: argparse.Namespace) -> LightBagel:
    from ..pipeline import LightBagel
    from .info import NO_FUSION

    opened = files_of(args)
    model = LightBagel.of(opened, **how_of(args, opened), attention=args.attention)
    if model.unfused:
        print(f"lightbagel: {NO_FUSION}", file=sys.stderr)
    if args.compile:
        model.compile()
    return model


def offload_of(args: argparse.Namespace, opened: Opened, device: torch.device, dtype: torch.dtype | None) -> Any:
    """What --offload asks for; by itself as little as the graphics card allows."""
    if args.offload != "auto" or device.type != "cuda":
        return None if args.offload in ("auto", "none") else args.offload
    import torch

    from ..files.precision import Precision
    from ..memory.plan import Work, offload_for

    default = opened.config.defaults
    width, height = getattr(args, "size", None) or (default.width, default.height)
    sources = 1 + (args.history or 0) if args.command == "chat" else len(getattr(args, "images", ()))
    work = Work(width, height, sources, 3 * getattr(args, "count", 1))
    card = torch.cuda.mem_get_info(device)[0]
    return offload_for(opened.config, opened.components, Precision.of(dtype, device), card, work)
