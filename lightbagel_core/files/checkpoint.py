"""Modules from stored tensors, and a checkpoint folder from modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..config import LightBagelConfig
from ..model.fusion import FusionStack
from ..model.understanding import ImageProcessor, Understanding
from .components import blaming, empty_components
from .formats import Opened
from .precision import FLOAT8_KINDS, SCALE, Precision, dtypes, quantised, use_float8, widened
from .tensor_files import Stored, Tensors, read
from .tokenizer import open_tokenizer
from .writer import Entry, write_checkpoint

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    from ..model.generation import Generation


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
        held, scale = with_added(tensors[name], held, scale)
        if dtype in FLOAT8_KINDS:
            weight, scale = (held, scale) if scale is not None else quantised(held)
            yield name + SCALE, scale
            yield name, weight
        else:
            yield name, held.to(dtype) if scale is None else widened(held, scale, dtype)


def with_added(
    stored: Stored, held: torch.Tensor, scale: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A tensor and its scale, if it has one, with what is added to it; then it is float32 and has none."""
    for add in stored.added:
        held, scale = add(held if scale is None else widened(held, scale, torch.float32)), None
    return held, scale


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


def build_understanding(opened: Opened, device: torch.device) -> Understanding:
    """The VLM of an opened model with its tokenizer and image processor, still without weights.

    Raises:
        ValueError: there is no tokenizer, or it cannot be read.
    """
    vlm = empty_components(opened.config, opened.config_file, ["understanding"])["understanding"]
    tokenizer = open_tokenizer(opened.tokenizer)
    with blaming(opened.config_file, "describes no model that can be built"):
        processor = ImageProcessor(**opened.config.processor)
    return Understanding(vlm, tokenizer, processor, device)


def build_modules(
    opened: Opened, device: torch.device
) -> tuple[Understanding, Generation, FusionStack, AutoencoderKLWan]:
    """The components of an opened model, still without weights; they will compute on `device`.

    Where no fusion stack was opened it has no layers, and a context drawn as for training: that is the plain Wan.

    Raises:
        ValueError: as `build_understanding`.
    """
    from ..model.generation import Generation

    und = build_understanding(opened, device)
    others = empty_components(opened.config, opened.config_file, ["generation", "fusion", "vae"])
    fusion = others["fusion"]
    if "fusion" not in opened.components:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fusion = FusionStack(replace(opened.config.fusion, layers=0)).eval().requires_grad_(False).to(device)
    return und, Generation(others["generation"]), fusion, others["vae"]


def save_components(
    folder: Path,
    config: LightBagelConfig,
    und: Understanding,
    gen: Generation,
    fusion: FusionStack,
    vae: AutoencoderKLWan,
    dtype: torch.dtype,
) -> None:
    """Writes a model in memory as a checkpoint folder, all of it in `dtype`; see `write_checkpoint`.

    Raises:
        ValueError: weights are float8 or streamed, or as `write_checkpoint`.
    """
    modules: dict[str, nn.Module] = {"understanding": und.vlm, "generation": gen.dit, "fusion": fusion, "vae": vae}
    states = {name: module.state_dict() for name, module in modules.items()}
    if any(weight.is_meta or weight.dtype in FLOAT8_KINDS for state in states.values() for weight in state.values()):
        raise ValueError("a model with float8 or streamed weights cannot be saved; convert its files instead")

    def entry(name: str, weight: torch.Tensor) -> Entry:
        return Entry(((name, dtype, tuple(weight.shape)),), lambda: iter([weight.detach().to("cpu", dtype).flatten()]))

    entries = {component: [entry(*item) for item in state.items()] for component, state in states.items()}
    write_checkpoint(folder, entries, config, und.tokenizer)
