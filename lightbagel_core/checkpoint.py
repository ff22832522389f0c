"""The checkpoint folder: config.json, one safetensors file per part, the tokenizer. Nothing else is ever read.

config.json   understanding.safetensors   generation.safetensors   fusion.safetensors   vae.safetensors
tokenizer.json   tokenizer_config.json   chat_template.jinja
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from .config import LightBagelConfig
from .fusion import FusionStack
from .generation import Generation, weight_dtype
from .understanding import ImageProcessor, Understanding

PARTS = ("understanding", "generation", "fusion", "vae")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
FILES = {"config.json", *(f"{part}.safetensors" for part in PARTS), *TOKENIZER, "special_tokens_map.json"}


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules built inside get parameters without memory, and real buffers (rotary tables are not in the files)."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(module, name, None if param is None else nn.Parameter(param.to("meta"), param.requires_grad))

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def build_parts(config: LightBagelConfig) -> dict[str, Any]:
    """The bare modules of a model by part name, as their config describes them; with the weights their makers draw."""
    return {
        "understanding": Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config.understanding)),
        "generation": WanTransformer3DModel(**config.generation),
        "fusion": FusionStack(config.fusion),
        "vae": AutoencoderKLWan(**config.vae),
    }


def read_config(folder: Path) -> LightBagelConfig:
    """Raises ValueError when the folder holds no readable LightBagel config."""
    if not folder.is_dir():
        raise ValueError(f"there is no checkpoint folder {folder}")
    try:
        data = json.loads((folder / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} has no config.json; it is not a LightBagel checkpoint folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{folder / 'config.json'} is not a LightBagel config")
    return LightBagelConfig.from_dict(data)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def read_part(folder: Path, part: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of one part of a checkpoint folder, as stored; `module` (on meta, say) names what must be there.

    Raises:
        ValueError: the file is missing or damaged, or its tensors are not exactly the module's, by name and shape.
    """
    file, wanted = folder / f"{part}.safetensors", module.state_dict()
    if not file.is_file():
        raise ValueError(f"the checkpoint lacks {file.name} (looked in {file.parent})")
    try:
        with safe_open(file, "pt") as tensors:
            names = set(tensors.keys())
            shapes = {n: tuple(tensors.get_slice(n).get_shape()) for n in names & set(wanted)}
            problems = {
                "missing": sorted(set(wanted) - names),
                "unexpected": sorted(names - set(wanted)),
                "wrong shape": [
                    f"{n} {list(shape)} instead of {list(wanted[n].shape)}"
                    for n, shape in sorted(shapes.items())
                    if shape != tuple(wanted[n].shape)
                ],
            }
            found = "; ".join(f"{kind}: {_listed(list_)}" for kind, list_ in problems.items() if list_)
            if found:
                raise ValueError(f"{file} does not fit the config. {found}")
            return {n: tensors.get_tensor(n) for n in names}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is damaged or no safetensors file: {error}") from None


@contextmanager
def blaming(path: Path, verdict: str) -> Iterator[None]:
    """Turns whatever a library raises over a file's content into a ValueError that names the file."""
    try:
        yield
    except Exception as error:  # the libraries' own errors share no base class
        raise ValueError(f"{path} {verdict}: {error}") from error


def open_folder(folder: Path) -> tuple[LightBagelConfig, dict[str, Any]]:
    """A checkpoint folder's config and, on meta, the modules it describes, by part name.

    Raises:
        ValueError: there is no such folder, or its config describes no model.
    """
    config = read_config(folder)
    with blaming(folder / "config.json", "describes no model that can be built"), parameters_on_meta():
        return config, build_parts(config)


def load_module(
    folder: Path, part: str, module: nn.Module, device: torch.device, dtype: Callable[[str], torch.dtype]
) -> None:
    """Fills one of `open_folder`'s modules with its weights, in `dtype(name)` each, in eval mode, without gradients."""
    state = read_part(folder, part, module)
    module.load_state_dict({n: t.to(device, dtype(n)) for n, t in state.items()}, assign=True)
    module.to(device)  # the buffers
    module.eval().requires_grad_(False)


def load_understanding(
    folder: Path, config: LightBagelConfig, vlm: Any, device: torch.device, dtype: torch.dtype
) -> Understanding:
    """The understanding branch of a checkpoint folder; `vlm` is `open_folder`'s module.

    Raises:
        ValueError: anything missing, unexpected, damaged or of a wrong shape.
    """
    load_module(folder, "understanding", vlm, device, lambda name: dtype)
    for file in TOKENIZER:
        if not (folder / file).is_file():
            raise ValueError(f"the checkpoint lacks {file} (looked in {folder})")
    with blaming(folder / "tokenizer.json", "holds no tokenizer that can be read"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    with blaming(folder / "config.json", "describes no model that can be built"):
        processor = ImageProcessor(**config.processor)
    return Understanding(vlm, tokenizer, processor)


def load_parts(
    folder: Path, device: torch.device, dtype: torch.dtype
) -> tuple[LightBagelConfig, Understanding, Generation, FusionStack, AutoencoderKLWan]:
    """All parts of a checkpoint folder on a device, in eval mode and without gradients.

    What the model asks for in float32 (time embedding, modulation, head; the VAE) is float32 whatever `dtype` is.

    Raises:
        ValueError: anything missing, unexpected, damaged or of a wrong shape.
    """
    config, parts = open_folder(folder)
    und = load_understanding(folder, config, parts["understanding"], device, dtype)
    load_module(folder, "generation", parts["generation"], device, lambda name: weight_dtype(name, dtype))
    load_module(folder, "fusion", parts["fusion"], device, lambda name: dtype)
    load_module(folder, "vae", parts["vae"], device, lambda name: torch.float32)
    return config, und, Generation(parts["generation"]), parts["fusion"], parts["vae"]


def save_parts(
    folder: Path,
    config: LightBagelConfig,
    und: Understanding,
    gen: Generation,
    fusion: FusionStack,
    vae: AutoencoderKLWan,
    dtype: torch.dtype,
) -> None:
    """Writes a checkpoint folder; it appears whole under its name or not at all. Another checkpoint there is replaced.

    Raises:
        ValueError: something that is no LightBagel checkpoint is there already, or it could not be written.
    """
    if folder.exists():
        strange = [folder.name] if not folder.is_dir() else sorted({f.name for f in folder.iterdir()} - FILES)
        if strange:
            raise ValueError(f"{folder} is not a LightBagel checkpoint ({_listed(strange)}); choose a new folder")
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
            und.tokenizer.save_pretrained(partial)
            written = partial / "tokenizer_config.json"  # transformers 5 writes a class name that 4 does not know
            settings = json.loads(written.read_text("utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
            written.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
            for file in partial.iterdir():
                file.chmod(0o644)  # safetensors makes its files private
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"could not write {folder}: {error}") from None
