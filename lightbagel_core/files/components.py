"""The bare modules that a config describes; the base models' as their libraries ship them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ..config import COMPONENTS as COMPONENTS
from ..config import LightBagelConfig
from ..model.fusion import FusionStack


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


def build_component(name: str, config: LightBagelConfig) -> Any:
    """The bare module of one component, as its config describes it, with the weights its makers draw.

    Its library is imported here: who describes pictures need not wait for diffusers.
    """
    if name == "understanding":
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config.understanding))
    if name == "generation":
        from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

        return WanTransformer3DModel(**config.generation)
    if name == "fusion":
        return FusionStack(config.fusion)
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    return AutoencoderKLWan(**config.vae)


def build_components(config: LightBagelConfig, names: Iterable[str] = COMPONENTS) -> dict[str, Any]:
    """The bare modules of some components by name; see `build_component`."""
    return {name: build_component(name, config) for name in names}


@contextmanager
def blaming(path: Path, verdict: str) -> Iterator[None]:
    """Turns whatever a library raises over a file's content into a ValueError that names the file."""
    try:
        yield
    except Exception as error:  # the libraries' own errors share no base class
        raise ValueError(f"{path} {verdict}: {error}") from error


def empty_components(config: LightBagelConfig, file: Path, names: Iterable[str] = COMPONENTS) -> dict[str, Any]:
    """The modules a config describes, by component, their parameters on meta; `file` is what an error blames.

    Raises:
        ValueError: the config describes no model.
    """
    with blaming(file, "describes no model that can be built"), parameters_on_meta():
        return build_components(config, names)
