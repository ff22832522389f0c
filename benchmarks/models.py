"""The models that are measured: the built-in nano on a CPU, the real size with random weights on CUDA or meta."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor
from torch.nn import functional

from lightbagel_core.config import COMPONENTS, NANO, PUBLISHED, LightBagelConfig
from lightbagel_core.files.components import empty_components, parameters_on_meta
from lightbagel_core.files.formats import read_config
from lightbagel_core.files.precision import FLOAT8_KINDS, MODES, Precision, dtypes, use_float8
from lightbagel_core.files.tokenizer import open_tokenizer
from lightbagel_core.memory import plan
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.understanding import ImageProcessor, Understanding
from lightbagel_core.pipeline import LightBagel

RUNNING = ("understanding", "generation", "fusion")  # the parts that a run from prompt to latents needs


def flash(query: Tensor, *_: Any, **__: Any) -> Tensor:
    """Attention as fused kernels do it: nothing but the result is stored."""
    return torch.empty_like(query)


@contextmanager
def on_meta(attention: Callable[..., Tensor] = flash) -> Iterator[None]:
    """Inside, the model runs on the meta device, which knows neither autocast nor fused attention."""
    import torch.fx.experimental._config as assumptions

    before = functional.scaled_dot_product_attention, torch.autocast, assumptions.meta_nonzero_assume_all_nonzero
    functional.scaled_dot_product_attention, torch.autocast = attention, lambda *_, **__: nullcontext()  # type: ignore
    assumptions.meta_nonzero_assume_all_nonzero = True
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, torch.autocast = before[:2]  # type: ignore[assignment,misc]
        assumptions.meta_nonzero_assume_all_nonzero = before[2]


def modules_of(
    config: LightBagelConfig, mode: str, device: torch.device, parts: Sequence[str] = COMPONENTS
) -> dict[str, Any]:
    """The real modules in the dtypes that `mode` gives their weights: without memory on meta, random elsewhere.

    Those that are not among `parts` stay on meta.
    """
    modules = empty_components(config, PUBLISHED)
    precision = Precision.of(MODES[mode], device)
    for part in parts:
        module = modules[part]
        kinds = dtypes(part, plan.tensors_of(module, part), precision)
        use_float8(module, kinds)
        state = {}
        for name, like in module.state_dict().items():
            dtype = kinds.get(name, torch.float32)
            drawn = torch.empty(like.shape, device=device, dtype=torch.bfloat16 if dtype in FLOAT8_KINDS else dtype)
            state[name] = drawn.normal_(0, 0.02).to(dtype)
        module.load_state_dict(state, assign=True)
        module.to(device).eval().requires_grad_(False)
    return modules


class WithoutVae(LightBagel):
    """Draws latents: the VAE is the same for every way to them, and no part of what is compared."""

    def decode(self, latents: Tensor) -> Any:
        return latents


def model_for(device: torch.device) -> LightBagel:
    """What is measured on a device; without the VAE. The real size borrows the nano's tokenizer, for its markers."""
    if device.type != "cuda":
        nano = WithoutVae.from_pretrained(NANO, device, torch.float32)
        nano.need(*RUNNING)
        return nano
    config = read_config(PUBLISHED)
    torch.manual_seed(0)
    modules = modules_of(config, "bfloat16", device, RUNNING)
    und = Understanding(modules["understanding"], open_tokenizer(NANO), ImageProcessor(**config.processor), device)
    return WithoutVae(config, und, Generation(modules["generation"]), modules["fusion"], modules["vae"])


def plain_wan(model: LightBagel) -> WanTransformer3DModel:
    """diffusers' Wan transformer by itself, on the model's weights, in the dtypes that diffusers gives it."""
    with parameters_on_meta():
        wan = WanTransformer3DModel(**model.config.generation)

    def cast(name: str, tensor: Tensor) -> Tensor:
        return tensor if any(kept in name for kept in wan._keep_in_fp32_modules) else tensor.to(model.gen.dtype)

    wan.load_state_dict({name: cast(name, t) for name, t in model.gen.dit.state_dict().items()}, assign=True)
    return wan.to(model.device).eval().requires_grad_(False)


def compile_both(model: LightBagel, wan: WanTransformer3DModel, graphs: bool = False) -> None:
    """Has both sides of a comparison compiled."""
    model.compile(graphs=graphs)
    if wan is not model.gen.dit:
        wan.compile_repeated_blocks(fullgraph=True)
