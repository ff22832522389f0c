"""How many floating-point operations each path has to do, from the shapes alone; a multiply-add counts as two.

Only products are counted: projections, attention, convolution; no norms, activations, rotations. Where a path could do
without something, that is left out too, so these are floors:

- a plain Wan step embeds its context and projects it to cross-attention keys and values, per row and at every step;
- a fused step need not: its context is the learned one, a constant of the loaded model;
- an encode does what samples begin with in common once (see lightbagel_core/model/packing.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from lightbagel_core.config import LightBagelConfig

from .core import Constants


def matrix(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and the weighted sum, over all heads of together `width`."""
    return 2 * matrix(queries, width, keys)


def block(config: LightBagelConfig, tokens: int) -> int:
    """A DiT block over one image's tokens, the context's keys and values given."""
    dim = config.fusion.gen_dim
    projections = 6 * matrix(tokens, dim, dim)
    feed_forward = 2 * matrix(tokens, dim, config.generation["ffn_dim"])
    return projections + feed_forward + attention(tokens, tokens + config.fusion.context_len, dim)


def patches(config: LightBagelConfig, tokens: int) -> int:
    """Latents to tokens, or tokens to latents."""
    side = config.generation["patch_size"][-1]
    return matrix(tokens, config.generation["in_channels"] * side * side, config.fusion.gen_dim)


def time(config: LightBagelConfig) -> int:
    """The time embedding and modulation of one row."""
    dim = config.fusion.gen_dim
    return matrix(1, config.generation["freq_dim"], dim) + matrix(1, dim, 7 * dim)


def dit(config: LightBagelConfig, tokens: int) -> int:
    """The whole DiT over one image's tokens, the context's keys and values given."""
    return 2 * patches(config, tokens) + time(config) + config.generation["num_layers"] * block(config, tokens)


def context(config: LightBagelConfig) -> int:
    """What a plain Wan makes of its context: the text embedding, and each block's keys and values."""
    fusion, dim = config.fusion, config.fusion.gen_dim
    embedding = matrix(fusion.context_len, fusion.context_dim, dim) + matrix(fusion.context_len, dim, dim)
    return embedding + config.generation["num_layers"] * 2 * matrix(fusion.context_len, dim, dim)


def wan_step(config: LightBagelConfig, rows: int, tokens: int) -> int:
    """diffusers' Wan transformer over `rows` images of `tokens` tokens."""
    return rows * (dit(config, tokens) + context(config))


def fusion_layer(config: LightBagelConfig, tokens: int, keys: int) -> int:
    """A fusion layer over gen tokens that see `keys` tokens, themselves included."""
    inner = config.fusion.heads * config.fusion.head_dim
    return 4 * matrix(tokens, config.fusion.gen_dim, inner) + attention(tokens, keys, inner)


def fused_step(config: LightBagelConfig, tokens: int, prefixes: Sequence[int]) -> int:
    """A step over one row per prefix, each of `tokens` noised tokens that see so many tokens before them."""
    fused = sum(fusion_layer(config, tokens, prefix + tokens) for prefix in prefixes)
    return len(prefixes) * dit(config, tokens) + config.fusion.layers * fused


def und_layer(config: LightBagelConfig, tokens: int) -> int:
    """A decoder layer of the VLM, every token beside every other: the mask hides scores, it does not save them."""
    text = config.understanding["text_config"]
    hidden, inner = text["hidden_size"], text["intermediate_size"]
    shared = text["num_key_value_heads"] * hidden // text["num_attention_heads"]
    projections = 2 * matrix(tokens, hidden, hidden) + 2 * matrix(tokens, hidden, shared)
    return projections + 3 * matrix(tokens, hidden, inner) + attention(tokens, tokens, hidden)


def encode(config: LightBagelConfig, constants: Constants) -> int:
    """The constant tokens of samples: und tokens through the VLM, source images through the DiT at t = 0.

    Nobody reads what the last fusion layer, or a DiT block after it, would make of the source images.
    """
    fusion, und = config.fusion, constants.und
    inner = fusion.heads * fusion.head_dim
    count = fusion.und_layers * und_layer(config, und) + fusion.layers * 2 * matrix(und, fusion.und_dim, inner)
    for tokens, attended in constants.sources:
        count += patches(config, tokens) + fusion.layers * block(config, tokens)
        count += (fusion.layers - 1) * fusion_layer(config, tokens, attended) + 3 * matrix(
            tokens, fusion.gen_dim, inner
        )
    return count + (time(config) if constants.sources else 0)
