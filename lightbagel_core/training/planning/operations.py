"""How many floating-point operations a training step has to do, from the shapes alone; a multiply-add counts as two.

Only matrix products are counted, and the VAE is not. Backward they are done twice for what is trained, once for what
only passes gradients on, and not at all before the first trained tensor; with checkpointing the units' forward pass is
done once more.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...config import LightBagelConfig
from ..stages import ALONE, Stage
from .portions import Portions
from .tokens import Tokens


@dataclass(frozen=True)
class Operations:
    """Of a step, over all processes. reading: by the VLM."""

    forward: float
    backward: float
    again: float
    reading: float

    @property
    def all(self) -> float:
        return self.forward + self.backward + self.again + self.reading


def block(config: LightBagelConfig, tokens: Tokens, passes: float = 1.0) -> tuple[float, float]:
    """(products with weights, attention) of a DiT block. The learned context's keys and values: once a pass."""
    d, length = config.fusion.gen_dim, config.fusion.context_len
    weights = tokens.gen * (12 * d**2 + 4 * d * config.generation["ffn_dim"]) + passes * 4 * length * d**2
    return weights, 4 * d * (tokens.squares + tokens.gen * length)


def fusion_layer(config: LightBagelConfig, tokens: Tokens) -> tuple[float, float, float]:
    """(products with weights over gen tokens, those over und tokens, attention) of a fusion layer."""
    fusion = config.fusion
    inner = fusion.heads * fusion.head_dim
    return 8 * tokens.gen * fusion.gen_dim * inner, 4 * tokens.und * fusion.und_dim * inner, 4 * tokens.pairs * inner


def ends(config: LightBagelConfig, tokens: Tokens, passes: float = 1.0) -> float:
    """Latents to tokens, tokens to velocities, and the learned context's embedding, once a pass."""
    fusion, gen = config.fusion, config.generation
    patch = gen["in_channels"] * gen["patch_size"][-1] ** 2
    d, length = fusion.gen_dim, fusion.context_len
    return 2 * patch * d * (tokens.gen + tokens.noised) + passes * 2 * length * d * (fusion.context_dim + d)


def reading(config: LightBagelConfig, tokens: Tokens) -> float:
    """The VLM over und tokens, its vision tower included; no logits."""
    text, seen = config.understanding["text_config"], config.understanding["vision_config"]
    h, inner = text["hidden_size"], text["intermediate_size"]
    shared = text["num_key_value_heads"] * h // text["num_attention_heads"]
    layer = tokens.und * (4 * h**2 + 4 * h * shared + 6 * h * inner) + 4 * tokens.und_squares * h
    patches = tokens.vit * seen["spatial_merge_size"] ** 2
    v = seen["hidden_size"]
    tower = seen["depth"] * patches * (8 * v**2 + 6 * v * seen["intermediate_size"])
    return float(text["num_hidden_layers"] * layer + tower)


def operations(stage: Stage, config: LightBagelConfig, held: Portions, world: int = 1) -> Operations:
    """Of a step, over all processes.

    Args:
        world: so many they are; in each of their passes the learned context is embedded anew.
    """
    step = held.mean * held.samples
    if stage.recipe != "drawing":
        forward = reading(config, step) if ALONE[stage.recipe] == "understanding" else 0.0
        return Operations(forward, 2 * forward, 0.0, 0.0)
    passes = world * held.passes(stage, world)
    d, inner = config.fusion.gen_dim, config.fusion.heads * config.fusion.head_dim
    blocks, layers = config.generation["num_layers"], config.fusion.layers
    # Nothing attends to what sources become after the last layer: neither it nor the block after it computes that.
    sources = Tokens(clean=step.clean, squares=step.squares * step.clean / step.gen)
    weights, attention = (
        blocks * every - (blocks - layers) * spared
        for every, spared in zip(block(config, step, passes), block(config, sources, 0.0), strict=True)
    )
    gen, und, among = (layers * each for each in fusion_layer(config, step))
    gen -= 2 * step.clean * d * inner
    among -= 4 * inner * (step.pairs - step.noised_pairs)
    forward = weights + attention + gen + und + among + ends(config, step, passes)
    whole, lora = "generation" in stage.train, stage.lora.generation.rank > 0
    fusion, adapted = "fusion" in stage.train, stage.lora.fusion.rank > 0
    reached = [weights, attention]  # the backward pass goes no further down than to the first trained tensor
    if not whole and not lora:
        first = block(config, step, passes)
        own = (8 * d**2 * step.gen, 4 * d * step.squares) if "context" in stage.train else first
        reached = [weights - own[0], attention - own[1]]
    patch = config.generation["in_channels"] * config.generation["patch_size"][-1] ** 2
    backward = reached[0] * (2 if whole else 1) + 2 * reached[1]
    backward += gen * (2 if fusion else 1) + 2 * among + (und if fusion or adapted else 0)
    backward += 2 * patch * d * (step.noised + (step.gen + step.noised if whole else 0))
    added = 6 * lora_products(stage, config, step)
    vlm = reading(config, step)
    if "understanding" in stage.train:
        forward, backward, vlm = forward + vlm, backward + 2 * vlm, 0.0
    elif stage.cache.states == "rolling":
        vlm *= stage.cache.samples * held.turns / (held.samples * stage.cache.renew)  # a chunk every `renew` steps
    again = weights + attention + gen + und + among if stage.checkpointing else 0.0
    return Operations(forward + added / 3, backward + 2 * added / 3, again, vlm)


def lora_products(stage: Stage, config: LightBagelConfig, step: Tokens) -> float:
    """Inputs and outputs of all adapters' matrices times the tokens that go through them."""
    d, inner = config.fusion.gen_dim, config.fusion.heads * config.fusion.head_dim
    block = step.gen * (12 * d + 2 * (d + config.generation["ffn_dim"]))
    layer = step.gen * 4 * (d + inner) + step.und * 2 * (config.fusion.und_dim + inner)
    return (
        stage.lora.generation.rank * config.generation["num_layers"] * block
        + stage.lora.fusion.rank * config.fusion.layers * layer
    )
