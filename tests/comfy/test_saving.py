"""What ComfyUI's saving and merging nodes make of a LightBagel: whole files that open again and draw the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import PROMPT, ksampler, pixels, psnr

NANO = "nano (built in)"


@pytest.fixture(scope="module")
def models(host, tmp_path_factory) -> Path:
    """A models folder into which the saving nodes write, as into their output folder."""
    import folder_paths

    root = tmp_path_factory.mktemp("saved")
    for kind in ("text_encoders", "diffusion_models", "vae", "lightbagel"):
        (root / kind).mkdir()
        folder_paths.add_model_folder_path(kind, str(root / kind))
    return root


def save(host: Any, models: Path, node_id: str, kind: str, *parts: Any) -> str:
    """The name of the file that a saving node writes into a folder of models."""
    import folder_paths

    before = set((models / kind).iterdir())
    node = host.mappings[node_id]()
    node.output_dir = str(models)
    with torch.inference_mode():
        getattr(node, node.FUNCTION)(*parts, f"{kind}/it")
    (new,) = set((models / kind).iterdir()) - before
    folder_paths.filename_list_cache.clear()
    return new.name


def load(host: Any, checkpoint: str = NANO, weight_dtype: str = "float32", **files: str) -> Any:
    return host("LightBagelLoader", checkpoint=checkpoint, weight_dtype=weight_dtype, **files)


def drawn(host: Any, parts: Any) -> Any:
    """A picture of stock nodes, from a model's own CLIP to its own VAE."""
    model, clip, vae = parts
    prompts = host("CLIPTextEncode", clip, PROMPT), host("CLIPTextEncode", clip, "")
    return pixels(host("VAEDecode", vae, {"samples": ksampler(host, model, prompts)}))


def test_a_checkpoint(host, models, loaded):
    name = save(host, models, "CheckpointSave", "lightbagel", *loaded)
    again = load(host, name)
    assert psnr(drawn(host, again), drawn(host, loaded)) > 60


def test_three_base_files(host, models, loaded):
    files = {
        "diffusion_model": save(host, models, "ModelSave", "diffusion_models", loaded[0]),
        "text_encoder": save(host, models, "CLIPSave", "text_encoders", loaded[1]),
        "vae_file": save(host, models, "VAESave", "vae", loaded[2]),
    }
    (models / "lightbagel" / "model.safetensors").write_bytes(
        (models / "diffusion_models" / files["diffusion_model"]).read_bytes()
    )
    del files["diffusion_model"]
    again = load(host, "model.safetensors", **files)
    assert psnr(drawn(host, again), drawn(host, loaded)) > 60
