"""Loading: a whole LightBagel checkpoint, or its fusion stack onto a Wan model loaded by other means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..lightbagel_core.config import NANO

CATEGORY = "LightBagel"
FOLDER = "lightbagel"
BUILT_IN = "nano (built in)"
DTYPES = {"default": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def register_folder() -> None:
    """Makes models/lightbagel/ a model folder like any other; extra_model_paths.yaml may add to it."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER), is_default=True)
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, extensions | {".safetensors"})


def checkpoints() -> list[str]:
    """The built-in nano, then the checkpoint folders people have, by name."""
    found = {
        entry.name
        for root in folder_paths.get_folder_paths(FOLDER)
        if os.path.isdir(root)
        for entry in Path(root).iterdir()
        if (entry / "config.json").is_file()
    }
    return [BUILT_IN, *sorted(found)]


def checkpoint_folder(name: str) -> Path:
    if name == BUILT_IN:
        return NANO
    if name in checkpoints():  # nothing but what is listed becomes a path
        for root in folder_paths.get_folder_paths(FOLDER):
            if (Path(root) / name / "config.json").is_file():
                return Path(root) / name
    raise ValueError(
        f"there is no LightBagel checkpoint {name!r} in models/{FOLDER}; refresh the list and choose again"
    )


class LightBagelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LightBagelLoader",
            display_name="Load LightBagel",
            category=CATEGORY,
            description="Loads a LightBagel checkpoint: one model that draws, edits and describes.",
            search_aliases=["lightbagel", "lightfusion", "checkpoint", "load model"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoints(),
                    default=BUILT_IN,
                    tooltip="The small built-in model, or a checkpoint folder in models/lightbagel.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="Precision of the weights. Default: what ComfyUI chooses for this machine.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="Draws; for KSampler, LoRA loaders and every other MODEL input."),
                io.Clip.Output(tooltip="Understands prompts and pictures."),
                io.Vae.Output(tooltip="The Wan2.2 VAE."),
            ],
        )

    @classmethod
    def execute(cls, checkpoint: str, weight_dtype: str) -> io.NodeOutput:
        from .host.load import load_checkpoint

        return io.NodeOutput(*load_checkpoint(checkpoint_folder(checkpoint), DTYPES[weight_dtype]))


class LightBagelApplyFusion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LightBagelApplyFusion",
            display_name="Apply LightBagel Fusion",
            category=CATEGORY,
            description="Puts a LightBagel fusion stack onto any Wan2.2-TI2V-5B model: fp8, GGUF, with LoRAs.",
            search_aliases=["lightbagel", "fusion", "wan", "gguf"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A Wan2.2-TI2V-5B model, loaded by any loader. Its shift becomes 4 unless it was set.",
                ),
                io.Combo.Input(
                    "fusion",
                    options=checkpoints(),
                    default=BUILT_IN,
                    tooltip="The checkpoint whose fusion stack to use; its sizes must be the model's.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, listening to LightBagel's text encoder.")],
        )

    @classmethod
    def execute(cls, model: Any, fusion: str) -> io.NodeOutput:
        from .host.load import apply_fusion

        return io.NodeOutput(apply_fusion(model, checkpoint_folder(fusion)))
