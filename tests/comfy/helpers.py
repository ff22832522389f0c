"""Pictures and prompts that the tests share."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image, ImageDraw

STEPS, SEED = 6, 3
SIDE = 96  # pixels of the nano's pictures
CELLS = SIDE // 16  # of their latents, each way
PROMPT, INSTRUCTION = "a red circle left of a blue square", "make the circle blue"
SETTINGS = {
    "seed": SEED,
    "steps": STEPS,
    "text_guidance": 2.0,
    "negative_prompt": "",
    "solver": "euler",
    "shift": 4.0,
    "renorm": "none",
    "renorm_min": 0.0,
    "guidance_from": 1.0,
    "guidance_to": 0.0,
}


def source(colour: str = "red", size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A large circle on the left and a small blue square on the right, on white, as the nano knows them at its size."""
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((3, size[1] // 2 - 14, 31, size[1] // 2 + 14), fill=colour)
    draw.rectangle((size[0] - 26, size[1] // 2 - 9, size[0] - 8, size[1] // 2 + 9), fill="blue")
    return picture


def tensor(picture: Image.Image) -> torch.Tensor:
    """IMAGE [1, H, W, 3]."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 255)[None]


def pixels(image: torch.Tensor) -> np.ndarray:
    """uint8 [H, W, 3] of the first picture of an IMAGE or of a decoded video."""
    return (image.reshape(-1, *image.shape[-3:])[0].clamp(0, 1) * 255).round().byte().numpy()


def psnr(a: Any, b: Any) -> float:
    error = float(((np.asarray(a, float) - np.asarray(b, float)) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def empty(count: int = 1, side: int = SIDE) -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(count, 48, side // 16, side // 16)}


def ksampler(host, model, prompts, latent=None, **changed: Any) -> torch.Tensor:
    """Latents [B, 48, h, w] of a stock KSampler."""
    inputs = {
        "seed": SEED,
        "steps": STEPS,
        "cfg": 2.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "positive": prompts[0],
        "negative": prompts[1],
        "latent_image": latent or empty(),
    }
    return host("KSampler", model, **{**inputs, **changed})["samples"]


def part(host: Any, name: str) -> Any:
    """A module of nodes/host, as ComfyUI has loaded it."""
    return import_module(f"{host.mappings['LightBagelLoader'].__module__.rpartition('.')[0]}.host.{name}")


def native(host: Any, vae: Any) -> tuple[Any, Any]:
    """(MODEL, VAE) of the nano's sizes as ComfyUI's own loaders make them of the real files: those of a video model."""
    import comfy.latent_formats
    import comfy.ldm.wan.vae2_2 as vae2_2
    import comfy.sd

    load = part(host, "load")
    opened = load.Files(Path(__file__).resolve().parents[2] / "lightbagel_core" / "nano").open(["generation"])
    wan = load.wan_model(opened, torch.float32)
    ours, stock = wan.model.latent_format, comfy.latent_formats.Wan22()
    stock.latents_mean, stock.latents_std = (x.reshape(1, 48, 1, 1, 1) for x in (ours.latents_mean, ours.latents_std))
    wan.model.latent_format = stock
    kind, sizes = vae2_2.WanVAE, {"dim": 16, "dec_dim": 16, "num_res_blocks": 1}
    with patch.object(vae2_2, "WanVAE", lambda **fixed: kind(**{**fixed, **sizes})):
        films = comfy.sd.VAE(sd=vae.get_sd())
    assert films.latent_dim == 3
    return wan, films


def fusion_of(model: Any) -> Any:
    """The fusion stack of a MODEL of Load LightBagel, which is a part of its Wan."""
    return model.model.diffusion_model.lightbagel


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-3)


def counted(monkeypatch: Any, calls: dict[str, int], owner: Any, method: str, name: str) -> None:
    """From now on `calls[name]` counts the calls of a method."""
    original = getattr(owner, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return original(*args, **kwargs)

    calls[name] = 0
    monkeypatch.setattr(owner, method, call)
