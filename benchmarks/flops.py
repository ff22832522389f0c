"""How many floating-point operations each path has to do, from the shapes alone; a multiply-add counts as two.

Only products are counted: projections, attention, convolution; no norms, activations, rotations. Where a path could do
without something, that is left out too, so these are floors:

- a plain Wan step embeds its context and projects it to cross-attention keys and values, per row and at every step;
- a fused step need not: its context is the learned one, a constant of the loaded model;
- an encode does what samples begin with in common once (see lightbagel_core/model/packing.py);
- a training step's backward pass makes two products of each of the forward's, one for each of its two sides, but for
  sides that nothing trained has led to. What kernels compute a second time in it is not counted.
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
    count = config.fusion.und_layers * und_layer(config, constants.und) + und_key_value(config, constants.und)
    count += sum(source(config, tokens, attended) for tokens, attended in constants.sources)
    return count + (time(config) if constants.sources else 0)


def und_key_value(config: LightBagelConfig, tokens: int) -> int:
    """What all fusion layers make of the und tokens."""
    fusion = config.fusion
    return fusion.layers * 2 * matrix(tokens, fusion.und_dim, fusion.heads * fusion.head_dim)


def source(config: LightBagelConfig, tokens: int, attended: int) -> int:
    """A source image through the DiT, its time given: up to its queries, keys and values in the last fusion layer."""
    fusion = config.fusion
    count = patches(config, tokens) + fusion.layers * block(config, tokens)
    last = 3 * matrix(tokens, fusion.gen_dim, fusion.heads * fusion.head_dim)
    return count + (fusion.layers - 1) * fusion_layer(config, tokens, attended) + last


def joint(config: LightBagelConfig, constants: Constants, tokens: int) -> int:
    """The forward pass of a training step, the VLM's states given: all pictures once, `tokens` noised ones a sample."""
    count = fused_step(config, tokens, constants.prefixes) + context(config) + und_key_value(config, constants.und)
    return count + sum(source(config, *each) + time(config) for each in constants.sources)


def training(config: LightBagelConfig, constants: Constants, tokens: int) -> int:
    """A training step of DiT, fusion and learned context, forward and backward, the VLM's states given."""
    pictures = [n for n, _ in constants.sources] + [tokens] * len(constants.prefixes)
    return 3 * joint(config, constants, tokens) - sum(_given(config, n) for n in pictures)


def wan_training(config: LightBagelConfig, rows: int, tokens: int) -> int:
    """A training step of diffusers' Wan transformer, forward and backward."""
    fusion = config.fusion
    text = matrix(fusion.context_len, fusion.context_dim, fusion.gen_dim)
    return 3 * wan_step(config, rows, tokens) - rows * (_given(config, tokens) + text)


def _given(config: LightBagelConfig, tokens: int) -> int:
    """The products that would lead to the gradients of an image's latents and of its time, which nobody needs."""
    return patches(config, tokens) + matrix(1, config.generation["freq_dim"], config.fusion.gen_dim)
