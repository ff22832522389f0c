"""Modules from stored tensors, and our own checkpoint folder.

config.json   understanding.safetensors   generation.safetensors   fusion.safetensors   vae.safetensors
tokenizer.json   tokenizer_config.json   chat_template.jinja

A component may be sharded: COMPONENT-00001-of-00003.safetensors … and COMPONENT.safetensors.index.json.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from ..config import LightBagelConfig
from ..model.fusion import FusionStack
from ..model.generation import Generation
from ..model.understanding import ImageProcessor, Understanding
from .components import COMPONENTS, blaming, empty_components
from .formats import Opened
from .precision import FLOAT8_KINDS, SCALE, Precision, dtypes, quantised, use_float8, widened
from .tensor_files import Stored, Tensors, listed, read
from .tokenizer import open_tokenizer, save_tokenizer

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
OURS = re.compile(rf"(?:{'|'.join(COMPONENTS)})(?:-\d+-of-\d+)?\.safetensors(?:\.index\.json)?")
BESIDE = {"config.json", *TOKENIZER, "special_tokens_map.json"}


def weights(
    tensors: Tensors, kinds: Mapping[str, torch.dtype], device: torch.device
) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a component in the dtypes `kinds` (see `dtypes`), one at a time; `X_scale` before each float8 X.

    What needs no change on the CPU stays where it is: in the memory-mapped file.

    Raises:
        ValueError: a file is damaged or a float8 scale is no positive number.
    """
    for name, dtype in kinds.items():
        held = read(tensors[name]).to(device)
        scaled = tensors[name].dtype in FLOAT8_KINDS
        scale = read_scale(tensors.get(name + SCALE)).to(device) if scaled else None
        if dtype in FLOAT8_KINDS:
            weight, scale = (held, scale) if scale is not None else quantised(held)
            yield name + SCALE, scale
            yield name, weight
        else:
            yield name, held.to(dtype) if scale is None else widened(held, scale, dtype)


def read_scale(stored: Stored | None) -> torch.Tensor:
    """The scale of a float8 weight, float32 []; 1 where there is none.

    Raises:
        ValueError: it is no positive number.
    """
    if stored is None:
        return torch.ones(())
    scale = read(stored)
    if not (torch.isfinite(scale) and scale > 0):
        raise ValueError(f"{stored.file} is damaged: {stored.key} is {float(scale)}, which is no scale")
    return scale


def fill(component: str, module: nn.Module, tensors: Tensors, precision: Precision, device: torch.device) -> None:
    """Gives one of `empty_components`' modules its weights, on a device, in eval mode and without gradients.

    Raises:
        ValueError: as `weights`.
    """
    kinds = dtypes(component, tensors, precision)
    use_float8(module, kinds)
    module.load_state_dict(dict(weights(tensors, kinds, device)), assign=True)
    module.to(device)  # the buffers
    module.eval().requires_grad_(False)


def build_modules(
    opened: Opened, device: torch.device
) -> tuple[Understanding, Generation, FusionStack, AutoencoderKLWan]:
    """The components of an opened model, still without weights; they will compute on `device`.

    Where no fusion stack was opened it has no layers, and a context drawn as for training: that is the plain Wan.

    Raises:
        ValueError: there is no tokenizer, or it cannot be read.
    """
    components = empty_components(opened.config, opened.config_file)
    tokenizer = open_tokenizer(opened.tokenizer)
    with blaming(opened.config_file, "describes no model that can be built"):
        processor = ImageProcessor(**opened.config.processor)
    und = Understanding(components["understanding"], tokenizer, processor, device)
    fusion = components["fusion"]
    if "fusion" not in opened.components:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fusion = FusionStack(replace(opened.config.fusion, layers=0)).eval().requires_grad_(False).to(device)
    return und, Generation(components["generation"]), fusion, components["vae"]


def replace_folder(folder: Path, new: Path) -> None:
    """Puts a folder in another's place; when that fails the other stays."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def strangers(folder: Path) -> list[str]:
    """What at a path does not belong to a LightBagel checkpoint folder."""
    if not folder.is_dir():
        return [folder.name]
    return sorted(f.name for f in folder.iterdir() if f.name not in BESIDE and not OURS.fullmatch(f.name))


def save_components(
    folder: Path,
    config: LightBagelConfig,
    und: Understanding,
    gen: Generation,
    fusion: FusionStack,
    vae: AutoencoderKLWan,
    dtype: torch.dtype,
) -> None:
    """Writes a checkpoint folder; it appears whole under its name or not at all. Another checkpoint there is replaced
    (killed in that very moment, it stands beside under `.NAME.old`).

    Raises:
        ValueError: something that is no LightBagel checkpoint is there already, or it could not be written.
    """
    if folder.exists():
        strange = strangers(folder)
        if strange:
            raise ValueError(f"{folder} is not a LightBagel checkpoint ({listed(strange)}); choose a new folder")
    weights = [weight for module in (und, gen, fusion, vae) for weight in module.parameters()]
    if any(weight.is_meta or weight.dtype in FLOAT8_KINDS for weight in weights):
        raise ValueError("a model with float8 or streamed weights cannot be saved; convert its files instead")
    modules: dict[str, nn.Module] = {"understanding": und.vlm, "generation": gen.dit, "fusion": fusion, "vae": vae}
    metadata = {"format": "pt", "lightbagel_format": str(config.format_version)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            partial = Path(scratch) / "new"
            partial.mkdir()
            for name, module in modules.items():
                state = {
                    key: value.detach().to("cpu", dtype).contiguous() for key, value in module.state_dict().items()
                }
                save_file(state, partial / f"{name}.safetensors", metadata)
            (partial / "config.json").write_text(json.dumps(config.to_dict(), indent=1) + "\n", "utf-8")
            save_tokenizer(und.tokenizer, partial)
            for file in partial.iterdir():
                file.chmod(0o644)  # safetensors makes its files private
            replace_folder(folder, partial)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"could not write {folder}: {error}") from None
