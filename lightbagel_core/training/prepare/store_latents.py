"""The latents of a store's pictures, kept in it: so training that freezes the VAE never needs to run it."""

from __future__ import annotations

from io import BytesIO

import torch
from PIL import Image
from tqdm.auto import tqdm

from ...files.components import empty_components
from ...files.precision import default_device
from ...images import read_image, resized, to_pixels
from ...memory.offload import Residency
from ...model.vae import encode, use_single_frames
from ..data.encode import VAE_PIXELS
from ..data.store import LATENTS, Store
from ..encoders import kept_latents
from ..loading import find
from ..precisions import BASES
from ..stages import Model, Stage

WAITING = 64  # pictures of one size at most that wait for others of it


def keep_latents(
    store: Store, model: Model, device: str | torch.device | None = None, progress: bool = False
) -> tuple[int, int]:
    """Keeps the latents of every picture of a store, where training with the same files of the VAE finds them.

    What an earlier call kept is not made again.

    Args:
        model: where the VAE comes from, in a stage's words. device: default: the accelerator that is there.

    Returns:
        Of how many pictures latents were made, and of how many they were there.

    Raises:
        ValueError: the VAE or a picture cannot be read, or the latents not be written.
    """
    stage, where = Stage(model=model), default_device() if device is None else torch.device(device)
    opened = find(model, ["vae"])
    vae = use_single_frames(empty_components(opened.config, opened.config_file, ["vae"])["vae"])
    residency = Residency(opened, {"vae": vae}, BASES[stage.base], where)
    kept = kept_latents(stage, opened.config, store.folder / LATENTS)
    assert kept is not None
    rule, made, known = opened.config.vae_image, 0, 0
    waiting: dict[tuple[int, int], list[tuple[Image.Image, Image.Image]]] = {}

    def make(size: tuple[int, int]) -> int:
        pictures = waiting.pop(size)
        residency.need("vae")
        with torch.no_grad():
            pixels = torch.stack([to_pixels(sized) for _, sized in pictures]).to(where)
            for (picture, _), latents in zip(pictures, encode(vae, pixels), strict=True):
                kept.keep(picture, latents)
        return len(pictures)

    for number in tqdm(range(store.count), disable=not progress, desc="latents", unit="row"):
        row = store.row(number)
        for content in (*row.sources, *row.targets):
            picture = read_image(BytesIO(content), store.name(number))
            if kept.find(picture) is not None:
                known += 1
                continue
            sized = resized(picture, rule)
            waiting.setdefault(sized.size, []).append((picture, sized))
            full = len(waiting[sized.size]) * sized.width * sized.height >= VAE_PIXELS
            if full or len(waiting[sized.size]) == WAITING:
                made += make(sized.size)
    made += sum(make(size) for size in list(waiting))
    return made, known
