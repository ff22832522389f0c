"""The frozen VLM and VAE that read examples: beside the DiT for the whole run, or only while a chunk is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
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
from .data.store import LATENTS
from .loading import find
from .precisions import BASES
from .stages import READERS, Stage
from .taking_turns import Turns

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    from ..model.understanding import Understanding


@dataclass(eq=False)
class Readers:
    """A VLM and a VAE. residency: brings their weights when they are needed; None: they are there.

    rest: gives up their weights until they are needed again.
    """

    und: Understanding
    vae: AutoencoderKLWan
    residency: Residency | None = None
    rest: Callable[[], object] = lambda: None

    def encoder(self, stage: Stage, config: LightBagelConfig, latents: Path) -> Encoder:
        """What reads examples with them. latents: the folder where those of finite sets are kept."""
        need: Callable[[str], object] = (lambda name: None) if self.residency is None else self.residency.need
        return Encoder(self.und, self.vae, config, kept_latents(stage, config, latents), need)


def frozen(
    stage: Stage,
    device: torch.device,
    offload: Offload | None = None,
    away: Callable[[], AbstractContextManager[None]] | None = None,
) -> Readers:
    """VLM and VAE in the dtype of what is frozen, still without weights.

    Args:
        offload: "parts": on a card only one of the two is there at a time.
        away: makes room for them on a card, where what trains has none to spare; see `Turns`.

    Raises:
        ValueError: their files are missing or damaged, or there is no tokenizer.
    """
    opened = find(stage.model, READERS)
    und = build_understanding(opened, device)
    vae = use_single_frames(empty_components(opened.config, opened.config_file, ["vae"])["vae"])
    offload = None if device.type == "cpu" else offload
    how = opened, {"understanding": und.vlm, "vae": vae}, BASES[stage.base], device, offload
    if away is None:
        residency = Residency(*how)
        return Readers(und, vae, residency, partial(residency.release, *READERS))
    turns = Turns(*how, away)
    return Readers(und, vae, turns, turns.rest)


@contextmanager
def encoders(stage: Stage, device: torch.device, latents: Path) -> Iterator[Encoder]:
    """Opens VLM and VAE, each while it is needed, and gives up their weights in the end.

    Raises:
        ValueError: as `frozen`.
    """
    readers = frozen(stage, device, "parts")
    assert readers.residency is not None
    try:
        yield readers.encoder(stage, readers.residency.opened.config, latents)
    finally:
        readers.rest()


def kept_latents(stage: Stage, config: LightBagelConfig, folder: Path) -> KeptLatents | None:
    """Where latents of finite sets are kept for good; None where they are not. A store's own are looked for first."""
    if not stage.cache.latents:
        return None
    stores = [Path(asked.path, LATENTS) for asked in stage.data.sets if asked.kind == "store" and asked.path]
    return KeptLatents(folder, stamp(stage, config, ["vae"]), config.vae_image, stores)


def stamp(stage: Stage, config: LightBagelConfig, components: Sequence[str] = READERS) -> str:
    """A checksum of all that the readings of examples depend on: the model's files, its sizes, the data, the seed.

    Of files their names, sizes and times count: to read gigabytes through would take longer than most runs. Latents
    depend on the VAE alone, so that all stages share them.
    """
    files = find(stage.model, components).files
    said: dict[str, Any] = {
        "files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "config": {part: getattr(config, part) for part in components},
    }
    if "understanding" in components:  # the VLM's states are of whole sequences
        said |= {"processor": config.processor, "rules": [asdict(config.vae_image), asdict(config.vit_image)]}
        said |= {"stage": stage.name, "seed": stage.seed, "base": stage.base}
        said |= {"dropout": asdict(stage.dropout), "data": asdict(stage.data)}
        said |= {"held_out": stage.validation.held_out, "samples": stage.cache.samples}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
