"""The models that are measured: the built-in nano on a CPU, the real size with random weights on CUDA or meta."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
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

RUNNING = ("understanding", "generation", "fusion")  # what a run from prompt to latents needs


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


class WithoutVae(LightBagel):
    """Draws latents: the VAE is the same for every way to them, and no part of what is compared."""

    def decode(self, latents: Tensor) -> Any:
        return latents


def with_random_weights(
    config: LightBagelConfig, mode: str, device: torch.device, components: Sequence[str] = RUNNING
) -> LightBagel:
    """A model of a config in the dtypes that `mode` gives its weights: without memory on meta, random elsewhere.

    Components that are not named stay on meta. Tokenizer and markers are the nano's, so that no file is needed.
    """
    nano, und = read_config(NANO / "config.json").understanding, config.understanding
    ids = {name: nano["text_config"][name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    markers = {name: value for name, value in nano.items() if name.endswith("_token_id")}
    config = replace(config, understanding=und | markers | {"text_config": und["text_config"] | ids})
    modules = empty_components(config, PUBLISHED)
    precision = Precision.of(MODES[mode], device)
    for name in components:
        module = modules[name]
        kinds = dtypes(name, plan.tensors_of(module, name), precision)
        use_float8(module, kinds)
        state = {}
        for key, like in module.state_dict().items():
            dtype = kinds.get(key, torch.float32)
            drawn = torch.empty(like.shape, device=device, dtype=torch.bfloat16 if dtype in FLOAT8_KINDS else dtype)
            state[key] = drawn.normal_(0, 0.02).to(dtype)
        module.load_state_dict(state, assign=True)
        module.to(device).eval().requires_grad_(False)
    processor = ImageProcessor(**config.processor)
    understanding = Understanding(modules["understanding"], open_tokenizer(NANO), processor, device)
    return WithoutVae(config, understanding, Generation(modules["generation"]), modules["fusion"], modules["vae"])


def model_for(device: torch.device) -> LightBagel:
    """What is measured on a device; without the VAE."""
    if device.type == "cuda":
        torch.manual_seed(0)
        return with_random_weights(read_config(PUBLISHED), "bfloat16", device)
    nano = WithoutVae.from_pretrained(NANO, device, torch.float32)
    nano.need(*RUNNING)
    return nano


def modules_of(model: LightBagel) -> dict[str, Any]:
    return dict(zip(COMPONENTS, (model.und.vlm, model.gen.dit, model.fusion, model.vae), strict=True))


def plain_wan(model: LightBagel) -> WanTransformer3DModel:
    """diffusers' Wan transformer by itself, on the model's weights, in the dtypes that diffusers gives it."""
    with parameters_on_meta():
        wan = WanTransformer3DModel(**model.config.generation)

    def cast(name: str, tensor: Tensor) -> Tensor:
        return tensor if any(kept in name for kept in wan._keep_in_fp32_modules) else tensor.to(model.gen.dtype)

    wan.load_state_dict({name: cast(name, t) for name, t in model.gen.dit.state_dict().items()}, assign=True)
    return wan.to(model.device).eval().requires_grad_(False)
