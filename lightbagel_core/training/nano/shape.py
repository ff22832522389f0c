"""The nano's numbers: the config and the tokenizer of one that has learned nothing yet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ...config import Defaults, FusionConfig, ImageRule, LightBagelConfig
from ...images import resized
from ...world.lexicon import vocabulary
from ...world.scenes import Scene, render
from .spelling import rules

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
SIDE = 96  # pixels of a nano picture: the world's places, 32 pixels apart, then stand in the middle of a token each
VIT_SIDE = 84  # pixels: 6 x 6 patches, 3 x 3 tokens after the merger
PATCH = 2  # latents per token side, as in Wan2.2
GRID = 3  # tokens per side: both the ViT's merged grid and the DiT's token grid of a nano picture
HIDDEN = 256  # of the VLM, and of the learned context
HEADS, HEAD_DIM = 2, 128  # of the DiT; ComfyUI tells a Wan by heads of 128
FUSION_HEADS, FUSION_HEAD_DIM = 8, 32  # as wide, and eight things can be listened to at once
BLOCKS = 6  # of the DiT
# theta is 100 where Qwen has 1e6: its slowest frequencies serve the width axis, and pictures here are 3 tokens wide.
# With 10 no frequency is slow enough to find a token by what it is, wherever it stands; 3,000 was tried, and is slower.
THETA = 100.0


def nano_config() -> tuple[LightBagelConfig, PreTrainedTokenizerFast]:
    """The config of an untrained nano, a new one at each call, and its tokenizer."""
    tokens = tokenizer()
    understanding = vlm(tokens)
    config = LightBagelConfig(
        name="nano",
        understanding=understanding,
        processor={"min_pixels": VIT_SIDE**2, "max_pixels": VIT_SIDE**2},
        generation=dit(),
        vae=vae(),
        fusion=FusionConfig(
            layers=BLOCKS - 1,
            und_layers=understanding["text_config"]["num_hidden_layers"],
            und_dim=HIDDEN,
            gen_dim=HEADS * HEAD_DIM,
            heads=FUSION_HEADS,
            head_dim=FUSION_HEAD_DIM,
            rope_theta=THETA,
            mrope_section=(4, 6, 6),
            context_len=8,
            context_dim=HIDDEN,
        ),
        vae_image=ImageRule(long=SIDE, short=32, stride=32),
        vit_image=ImageRule(long=VIT_SIDE, short=28, stride=28),
        defaults=Defaults(width=SIDE, height=SIDE, steps=20, text_guidance=2.0, edit_text_guidance=2.0),
    )
    return config, tokens


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token a word, so that a word it does not know is known to be unknown; other spellings and
    slips are read as the word (see spelling.py).
    """
    words = [*SPECIALS, "<unk>", *vocabulary()]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.Lowercase(), *_read_as()])
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.decoder = decoders.WordPiece(cleanup=True)  # no blank before a comma or a full stop
    raw.add_special_tokens(SPECIALS)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


@cache
def _read_as() -> Sequence[normalizers.Normalizer]:
    """Made once: each of a hundred words is compared with the slips of all others, which takes a tenth of a second."""
    return [normalizers.Replace(Regex(pattern), word) for pattern, word in rules(vocabulary())]


def vlm(tokens: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The arguments of a Qwen2_5_VLConfig, in the names that transformers 4 and 5 both take."""
    ids = {name: tokens.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    return {
        "text_config": {
            "vocab_size": 64 * -(-len(tokens) // 64),
            "hidden_size": HIDDEN,
            "intermediate_size": 640,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            "rope_theta": THETA,
            "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
            "bos_token_id": tokens.convert_tokens_to_ids("<|endoftext|>"),
            "eos_token_id": tokens.eos_token_id,
            "pad_token_id": tokens.pad_token_id,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [1, 3],
        },
        "image_token_id": ids["image_pad"],
        "video_token_id": ids["video_pad"],
        "vision_start_token_id": tokens.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokens.convert_tokens_to_ids("<|vision_end|>"),
        "tie_word_embeddings": False,
    }


def dit() -> dict[str, Any]:
    """The arguments of a WanTransformer3DModel."""
    return {
        "patch_size": [1, PATCH, PATCH],
        "num_attention_heads": HEADS,
        "attention_head_dim": HEAD_DIM,
        "in_channels": 48,
        "out_channels": 48,
        "text_dim": HIDDEN,
        "freq_dim": 256,
        "ffn_dim": 640,
        "num_layers": BLOCKS,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "rope_max_seq_len": 64,
    }


def vae() -> dict[str, Any]:
    """The arguments of an AutoencoderKLWan of the Wan2.2 type, whose latents' statistics are not known yet."""
    return {
        "base_dim": 16,
        "decoder_base_dim": 16,
        "z_dim": 48,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "scale_factor_temporal": 4,
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
    }


def picture(scene: Scene, side: int = SIDE) -> Image.Image:
    """A scene as a nano picture, RGB."""
    return resized(Image.fromarray(render(scene)), ImageRule(long=side, short=side, stride=side))


def vit_picture(scene: Scene) -> Image.Image:
    """A scene as the nano's ViT takes it: RGB, 84 x 84."""
    return picture(scene, VIT_SIDE)
