"""The frozen VLM and VAE that read examples: beside the DiT for the whole run, or only while a chunk is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import LightBagelConfig
from ..files.checkpoint import build_understanding
from ..files.components import empty_components
from ..memory.offload import Offload, Residency
from ..model.vae import use_single_frames
from .data.encode import Encoder
from .data.latents import KeptLatents
from .loading import find
from .precisions import BASES
from .stages import Stage

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    from ..model.understanding import Understanding

NEEDED = ("understanding", "vae")


@contextmanager
def encoders(stage: Stage, device: torch.device, cache: Path) -> Iterator[Encoder]:
    """Opens VLM and VAE in the dtype of what is frozen, each when it is needed, and gives up their weights in the end.

    Args:
        cache: the folder for what is kept.

    Raises:
        ValueError: their files are missing or damaged, or there is no tokenizer.
    """
    und, vae, residency = frozen(stage, device)
    config = residency.opened.config
    try:
        yield Encoder(und, vae, config, kept_latents(stage, config, cache), residency.need)
    finally:
        residency.release(*NEEDED)


def frozen(stage: Stage, device: torch.device) -> tuple[Understanding, AutoencoderKLWan, Residency]:
    """VLM and VAE, still without weights, and what brings these when they are needed.

    On a card only one of the two is there at a time where it is not asked for both.

    Raises:
        ValueError: as `encoders`.
    """
    opened = find(stage.model, NEEDED)
    und = build_understanding(opened, device)
    vae = use_single_frames(empty_components(opened.config, opened.config_file, ["vae"])["vae"])
    offload: Offload | None = None if device.type == "cpu" else "parts"
    return und, vae, Residency(opened, {"understanding": und.vlm, "vae": vae}, BASES[stage.base], device, offload)


def kept_latents(stage: Stage, config: LightBagelConfig, cache: Path) -> KeptLatents | None:
    """Where latents of finite sets are kept for good; None where they are not."""
    if not stage.cache.latents:
        return None
    return KeptLatents(cache / "latents", stamp(stage, config, ["vae"]), config.vae_image)


def stamp(stage: Stage, config: LightBagelConfig, components: Sequence[str] = NEEDED) -> str:
    """A checksum of all that the readings of examples depend on: the model's files, its sizes, the data, the seed.

    Of files their names, sizes and times count: to read gigabytes through would take longer than most runs.
    """
    files = find(stage.model, components).files
    said: dict[str, Any] = {
        "files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "config": {part: getattr(config, part) for part in components} | {"processor": config.processor},
        "rules": [asdict(config.vae_image), asdict(config.vit_image)],
        "base": stage.base,
    }
    if "understanding" in components:  # the VLM's states are of whole sequences
        said |= {"seed": stage.seed, "dropout": asdict(stage.dropout), "data": asdict(stage.data)}
        said |= {"held_out": stage.validation.held_out, "samples": stage.cache.samples}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
