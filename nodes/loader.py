"""Loading: a whole LightBagel checkpoint, or its fusion stack onto a Wan model loaded by other means."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..lightbagel_core.config import NANO
from .checked import checked

CATEGORY = "LightBagel"
FOLDER = "lightbagel"
BUILT_IN = "nano (built in)"
OWN = "from the checkpoint"
NONE = "none"
LORAS = Path(__file__).resolve().parents[1] / "loras"  # those that come with the pack
CHECKPOINT = re.compile(r"^config\.json$|\.safetensors(\.index\.json)?$")  # what a folder is known by
BASE = {"understanding": "text_encoders", "generation": "diffusion_models", "vae": "vae"}  # ComfyUI's model folders
WEIGHT_DTYPES = {
    "default": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
}


def register_folders() -> None:
    """Makes models/lightbagel/ a model folder like any other; extra_model_paths.yaml may add to it. As with other
    models, what was saved under `lightbagel/…` in the output folder is listed too. The LoRAs that come with the pack
    are listed among a person's own, after them.
    """
    folder_paths.add_model_folder_path("loras", str(LORAS))
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER), is_default=True)
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.get_output_directory(), FOLDER))
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, extensions | {".safetensors"})


def found_checkpoints() -> dict[str, Path]:
    """What models/lightbagel holds, by name: checkpoint folders, and single files (the authors', fusion stacks)."""
    return {
        entry.name: entry
        for root in reversed(folder_paths.get_folder_paths(FOLDER))  # of two with one name, that of the first folder
        if os.path.isdir(root)
        for entry in Path(root).iterdir()
        if not entry.name.startswith(".") and is_checkpoint(entry)
    }


def is_checkpoint(path: Path) -> bool:
    if not path.is_dir():
        return path.suffix == ".safetensors"
    try:
        return any(map(CHECKPOINT.search, os.listdir(path)))
    except OSError:  # a folder that may not be read
        return False


def checkpoints() -> list[str]:
    """The built-in nano, then the checkpoints people have, by name."""
    return [BUILT_IN, *sorted(found_checkpoints())]


def checkpoint_path(name: str) -> Path:
    """Raises ValueError: a name that is not listed; nothing else becomes a path."""
    if name == BUILT_IN:
        return NANO
    if name in (found := found_checkpoints()):
        return found[name]
    raise ValueError(
        f"there is no LightBagel checkpoint {name!r} in models/{FOLDER}; refresh the list and choose again"
    )


def as_they_lie(*paths: Path) -> str:
    """What files are now, by size, time and identity, of a folder all in it: another text once one has changed."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    about = [(file, file.stat()) for file in files if file.is_file()]
    return repr([(str(file), now.st_size, now.st_mtime_ns, now.st_ino) for file, now in about])


def chosen_files(**names: str | None) -> list[tuple[str, Path]]:
    """(component, file) of the base models that were chosen in place of a checkpoint's own."""
    chosen = {component: name for component, name in names.items() if name not in (OWN, None)}
    return [(c, Path(folder_paths.get_full_path_or_raise(BASE[c], name))) for c, name in chosen.items()]


def base_files(component: str) -> list[str]:
    """The files that a component may be taken from, in ComfyUI's own folder for such."""
    files = folder_paths.get_filename_list(BASE[component])
    return [OWN, *(name for name in files if name.endswith(".safetensors"))]


def loras() -> list[str]:
    """None, then the LoRAs that people have, by name; pickled ones are left out."""
    return [NONE, *(name for name in folder_paths.get_filename_list("loras") if name.endswith(".safetensors"))]


def lora_files(name: str | None) -> list[Path]:
    """The file of a LoRA that was chosen, if one was.

    Raises:
        FileNotFoundError: it is not there.
    """
    return [] if name in (NONE, None) else [Path(folder_paths.get_full_path_or_raise("loras", name))]


def chosen_lora(name: str | None, strength: float | None) -> tuple[Path, float] | None:
    return next(((file, 1.0 if strength is None else strength) for file in lora_files(name)), None)


def lora_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "fusion_lora",
            options=loras(),
            default=NONE,
            optional=True,
            tooltip="A LoRA of the fusion stack, from models/loras. That of the diffusion model goes through ComfyUI's "
            "own LoRA loader.",
        ),
        io.Float.Input(
            "fusion_lora_strength",
            default=1.0,
            min=-2.0,
            max=2.0,
            step=0.01,
            optional=True,
            tooltip="How strongly the fusion stack's LoRA acts. 0: not at all; below 0: against what it has learned.",
        ),
    ]


def base_input(component: str, name: str, tooltip: str) -> io.Combo.Input:
    return io.Combo.Input(
        name, options=base_files(component), default=OWN, advanced=True, optional=True, tooltip=tooltip
    )


class LightBagelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LightBagelLoader",
            display_name="Load LightBagel",
            category=CATEGORY,
            description="Loads a LightBagel checkpoint: one model that draws, edits and describes. Base models you "
            "already own can stand in for parts of it.",
            search_aliases=["lightbagel", "lightfusion", "checkpoint", "load model"],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=checkpoints(),
                    default=BUILT_IN,
                    tooltip="The small built-in model, or a checkpoint folder or file in models/lightbagel.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="Precision of the weights. Default: what ComfyUI chooses for this machine, fp8 as stored.",
                ),
                base_input(
                    "understanding", "text_encoder", "Qwen2.5-VL-7B from models/text_encoders, if not the checkpoint's."
                ),
                base_input(
                    "generation",
                    "diffusion_model",
                    "Wan2.2-TI2V-5B from models/diffusion_models, if not the "
                    "checkpoint's, which LightBagel has trained further.",
                ),
                base_input("vae", "vae_file", "The Wan2.2 VAE from models/vae, if not the checkpoint's."),
                *lora_inputs(),
            ],
            outputs=[
                io.Model.Output(tooltip="Draws; for KSampler, LoRA loaders and every other MODEL input."),
                io.Clip.Output(tooltip="Understands prompts and pictures."),
                io.Vae.Output(tooltip="The Wan2.2 VAE."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        checkpoint: str,
        weight_dtype: str,
        text_encoder: str = OWN,
        diffusion_model: str = OWN,
        vae_file: str = OWN,
        fusion_lora: str = NONE,
        fusion_lora_strength: float = 1.0,
    ) -> io.NodeOutput:
        from .host.load import Files, load_checkpoint

        if weight_dtype not in WEIGHT_DTYPES:
            raise ValueError(f"the weight_dtype input needs one of {', '.join(WEIGHT_DTYPES)}, not {weight_dtype!r}")
        components = chosen_files(understanding=text_encoder, generation=diffusion_model, vae=vae_file)
        lora = chosen_lora(fusion_lora, fusion_lora_strength)
        files = Files(checkpoint_path(checkpoint), tuple(components), lora)
        return io.NodeOutput(*load_checkpoint(files, WEIGHT_DTYPES[weight_dtype]))

    @classmethod
    def fingerprint_inputs(
        cls,
        checkpoint: str | None = None,
        text_encoder: str | None = None,
        diffusion_model: str | None = None,
        vae_file: str | None = None,
        fusion_lora: str | None = None,
        **others: Any,
    ) -> str:
        """Has ComfyUI load again what was exchanged on the disk since: weights lie in the file, not in a copy of it."""
        components = chosen_files(understanding=text_encoder, generation=diffusion_model, vae=vae_file)
        whole = [] if checkpoint is None else [checkpoint_path(checkpoint)]  # None: it comes by a link
        return as_they_lie(*whole, *(file for _, file in components), *lora_files(fusion_lora))


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
                *lora_inputs(),
            ],
            outputs=[io.Model.Output(tooltip="The model, listening to LightBagel's text encoder.")],
        )

    @classmethod
    @checked
    def execute(
        cls, model: Any, fusion: str, fusion_lora: str = NONE, fusion_lora_strength: float = 1.0
    ) -> io.NodeOutput:
        from .host.load import Files, apply_fusion

        lora = chosen_lora(fusion_lora, fusion_lora_strength)
        return io.NodeOutput(apply_fusion(model, Files(checkpoint_path(fusion), lora=lora)))

    @classmethod
    def fingerprint_inputs(cls, fusion: str | None = None, fusion_lora: str | None = None, **others: Any) -> str:
        """As of the loader."""
        whole = [] if fusion is None else [checkpoint_path(fusion)]
        return as_they_lie(*whole, *lora_files(fusion_lora))
