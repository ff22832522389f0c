"""The real model's numbers, for building it on the meta device. The VAE's latent statistics are not among them."""

from __future__ import annotations

from lightbagel_core.config import FusionConfig, ImageRule, LightBagelConfig


def real_size() -> LightBagelConfig:
    return LightBagelConfig(
        name="7B+5B",
        understanding={
            "text_config": {
                "vocab_size": 152064,
                "hidden_size": 3584,
                "intermediate_size": 18944,
                "num_hidden_layers": 28,
                "num_attention_heads": 28,
                "num_key_value_heads": 4,
                "rms_norm_eps": 1e-6,
                "rope_theta": 1e6,
                "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
                "tie_word_embeddings": False,
            },
            "vision_config": {"hidden_size": 1280, "intermediate_size": 3420, "out_hidden_size": 3584},
            "tie_word_embeddings": False,
        },
        processor={"min_pixels": 3136, "max_pixels": 12845056},
        generation={
            "patch_size": [1, 2, 2],
            "num_attention_heads": 24,
            "attention_head_dim": 128,
            "in_channels": 48,
            "out_channels": 48,
            "text_dim": 4096,
            "freq_dim": 256,
            "ffn_dim": 14336,
            "num_layers": 30,
            "cross_attn_norm": True,
            "eps": 1e-6,
        },
        vae={
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "dim_mult": [1, 2, 4, 4],
            "num_res_blocks": 2,
            "temperal_downsample": [False, True, True],
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 16,
        },
        fusion=FusionConfig(
            layers=29,
            und_layers=28,
            und_dim=3584,
            gen_dim=3072,
            heads=24,
            head_dim=128,
            rope_theta=1e6,
            mrope_section=(16, 24, 24),
            context_len=512,
            context_dim=4096,
        ),
        vae_image=ImageRule(1024, 512, 32),
        vit_image=ImageRule(532, 224, 28),
    )
