"""The tiny model: random weights (also where training would start at zero), a few layers, seconds to run."""

from __future__ import annotations

from functools import cache

import torch
from transformers import PreTrainedTokenizerFast

from lightbagel_core.config import Defaults, FusionConfig, ImageRule, LightBagelConfig
from lightbagel_core.files.components import COMPONENTS, build_components
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.understanding import ImageProcessor, Understanding
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.nano.shape import tokenizer, vae, vlm


@cache
def _words() -> PreTrainedTokenizerFast:
    """For its size and ids alone; to make one takes longer than all else of a config."""
    return tokenizer()


def tiny_config(und_layers: int = 2, blocks: int = 4, depth: float = 0.0) -> LightBagelConfig:
    """Fewer und layers than DiT blocks less one, as in the real model, so that the last und layer is read twice."""
    understanding = vlm(_words())
    understanding["text_config"] |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": und_layers}
    understanding["text_config"] |= {"num_attention_heads": 2, "num_key_value_heads": 1, "rope_theta": 100.0}
    understanding["text_config"]["rope_scaling"] = {"type": "mrope", "mrope_section": [4, 6, 6]}
    understanding["vision_config"] |= {"hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "depth": 2}
    understanding["vision_config"] |= {"fullatt_block_indexes": [1], "out_hidden_size": 64}
    return LightBagelConfig(
        name="tiny",
        understanding=understanding,
        processor={"min_pixels": 56 * 56, "max_pixels": 112 * 112},
        generation={
            "patch_size": [1, 2, 2],
            "num_attention_heads": 2,
            "attention_head_dim": 32,
            "in_channels": 48,
            "out_channels": 48,
            "text_dim": 24,
            "freq_dim": 32,
            "ffn_dim": 96,
            "num_layers": blocks,
            "cross_attn_norm": True,
            "eps": 1e-6,
            "rope_max_seq_len": 64,
        },
        vae={
            **vae(),
            "base_dim": 8,
            "decoder_base_dim": 8,
            "latents_mean": [0.01 * i for i in range(48)],
            "latents_std": [0.5 + 0.01 * i for i in range(48)],
        },
        fusion=FusionConfig(
            layers=blocks - 1,
            und_layers=und_layers,
            und_dim=64,
            gen_dim=64,
            heads=2,
            head_dim=32,
            rope_theta=100.0,
            mrope_section=(4, 6, 6),
            context_len=5,
            context_dim=24,
            depth=depth,
        ),
        vae_image=ImageRule(128, 64, 32),
        vit_image=ImageRule(112, 56, 28),
        defaults=Defaults(width=96, height=64, steps=3),
    )


def make_tiny(config: LightBagelConfig | None = None, tokens=None, **options) -> LightBagel:
    """The model of a config, by default `tiny_config`'s, with a tokenizer that fits it, by default the nano's."""
    torch.manual_seed(0)
    config = tiny_config(**options) if config is None else config
    parts = build_components(config)
    for module in parts.values():
        module.eval().requires_grad_(False)
    for layer in parts["fusion"].layers:
        torch.nn.init.normal_(layer.gen_out.weight, std=0.3)
        for norm in (layer.q_norm, layer.k_norm, layer.und_norm, layer.gen_norm):
            torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    torch.nn.init.normal_(parts["generation"].proj_out.weight, std=0.2)
    und = Understanding(
        parts["understanding"], tokenizer() if tokens is None else tokens, ImageProcessor(**config.processor)
    )
    return LightBagel(config, und, Generation(parts["generation"]), parts["fusion"], parts["vae"])


def whole(model: LightBagel) -> LightBagel:
    """The model with all its weights there, for tests that look at them."""
    model.need(*COMPONENTS)
    return model
