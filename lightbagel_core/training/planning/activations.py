"""What lives on the device beside weights during a pass, in bytes: by arithmetic of the shapes.

Counted is what autograd keeps of each unit for its backward pass, as the blocks of diffusers' Wan and the fusion layers
keep it with attention kernels that store no scores. With checkpointing only the units' inputs are kept, and one unit at
a time in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ...config import LightBagelConfig
from ...memory.plan import VAE_MAPS
from ..data.encode import READ_TOKENS
from ..stages import Stage
from .needs import Weight
from .tokens import Tokens

SHARED = 3  # distinct inputs of a block's linear layers, its context's apart


@dataclass(frozen=True)
class Kept:
    """Bytes of a pass.

    inputs: latents and und states. streams: what units are given. units: what is kept inside them, of one at a time or
    of all. copies: of weights, in the dtype they are multiplied in. passing: gradients of activations on their way.
    """

    inputs: int
    streams: int
    units: int
    copies: int
    passing: int

    @property
    def all(self) -> int:
        return self.inputs + self.streams + self.units + self.copies + self.passing


def sizes(stage: Stage, weights: Iterable[Weight]) -> tuple[int, int]:
    """Bytes a value has in the stream between blocks, and in matrix products."""
    embedding = next(w for w in weights if w.name == "patch_embedding.weight")
    stream = embedding.dtype.itemsize
    return stream, 2 if stage.precision == "bfloat16-mixed" else stream


def block(config: LightBagelConfig, tokens: Tokens, stream: int, size: int, grows: str, packed: bool) -> float:
    """What one DiT block keeps.

    Args:
        stream, size: see `sizes`. grows: what is trained of it, from `trained_of`.
    """
    d, f = config.fusion.gen_dim, config.generation["ffn_dim"]
    norms = 8 if stream == 4 else 12  # inputs of norms in float32: the stream itself, or copies of it
    kept = norms + 12 + 6 * size  # queries' and keys' norms; queries, keys, values, attended of both attentions
    wide = size  # the feed-forward's width, before its activation
    if grows:
        kept += inputs(stream, size, grows) * size
        wide += size
    if grows == "whole":
        kept += 12 + 8 + size + 4  # normalised, before a weight is multiplied; what gates are multiplied with
    if packed:
        kept += 32 + (size if grows else 0)  # modulation of each token
    return tokens.gen * (kept * d + wide * f)


def inputs(stream: int, size: int, grows: str) -> int:
    """How many inputs of a block's linear layers are kept: where each must be cast, each layer keeps its own.

    Adapters in float32 cast those of all layers, also where the layer itself need not.
    """
    if grows == "float32 lora" and size == 2:
        return 7
    return 5 if stream > size else SHARED


def fusion_layer(config: LightBagelConfig, tokens: Tokens, stream: int, size: int, grows: str) -> float:
    """What one fusion layer keeps; see `block`."""
    fusion = config.fusion
    d, inner = fusion.gen_dim, fusion.heads * fusion.head_dim
    kept = tokens.gen * ((0 if stream == 4 else 4) * d + (8 + 2 * size) * inner)
    kept += 2 * size * tokens.keys * inner  # each picture's keys and values, side by side
    if grows:
        shared = 1 if inputs(stream, size, grows) == SHARED else 3
        kept += tokens.gen * (shared * size * d + size * inner)
        kept += tokens.und * ((2 if shared == 3 and grows == "float32 lora" else 1) * size * fusion.und_dim + 4 * inner)
    if grows == "whole":
        kept += tokens.gen * (4 * d + 8 * inner) + tokens.und * (4 * fusion.und_dim + 4 * inner)
    return kept


def unkept(stage: Stage, config: LightBagelConfig, tokens: Tokens, one_block: float, one_layer: float) -> float:
    """What the first and the last units keep less than the others.

    The last block has no sources to compute, in the last layer only targets attend, and before the first trained tensor
    nothing is kept.
    """
    less = one_block * tokens.clean / tokens.gen * (config.generation["num_layers"] - config.fusion.layers)
    less += one_layer * (tokens.pairs - tokens.noised_pairs) / tokens.pairs
    if trained_of(stage, "generation") == "":
        less += one_block * (0.5 if "context" in stage.train else 1.0)
    return less


def trained_of(stage: Stage, component: str) -> str:
    """How a component is trained: "whole", "lora" or "float32 lora" by the adapters' dtype, or ""."""
    if component in stage.train:
        return "whole"
    if not getattr(stage.lora, component).rank:
        return ""
    return "lora" if stage.precision == "bfloat16" else "float32 lora"


def copies(stage: Stage, weights: Iterable[Weight], size: int, shard: int) -> int:
    """Bytes of the widened or narrowed matrices that live at once: of all units, or with checkpointing of the largest.

    Where weights are shared among processes, those under mixed precision are gathered narrow, and let go.
    """
    found: dict[str, int] = {}
    for w in weights:
        if w.unit is None or not w.matrix or w.component not in ("generation", "fusion"):
            continue
        widened = w.dtype == torch.float8_e4m3fn
        narrowed = w.dtype == torch.float32 and size == 2 and shard == 1
        if widened or narrowed:
            found[w.unit] = found.get(w.unit, 0) + 2 * w.count
    return max(found.values(), default=0) if stage.checkpointing else sum(found.values())


def kept(
    stage: Stage, config: LightBagelConfig, weights: list[Weight], tokens: Tokens, packed: bool, shard: int
) -> Kept:
    """What a pass of the drawing recipe keeps at its fullest, when its backward pass begins.

    Args:
        tokens: of the pass. weights: from `needs.weights`.
    """
    fusion, gen = config.fusion, config.generation
    d, blocks = fusion.gen_dim, gen["num_layers"]
    stream, size = sizes(stage, weights)
    one_block = block(config, tokens, stream, size, trained_of(stage, "generation"), packed)
    one_layer = fusion_layer(config, tokens, stream, size, trained_of(stage, "fusion"))
    # A frozen VLM's states come to the device layer by layer, and checkpointing keeps each; a trained one's are all
    # there.
    layers = fusion.und_layers if "understanding" in stage.train else fusion.layers if stage.checkpointing else 1
    states = 2 * tokens.und * fusion.und_dim * layers
    patch = gen["in_channels"] * gen["patch_size"][-1] ** 2
    latents = 4 * patch * (tokens.clean + 3 * tokens.noised)  # of a target also its noise, and both mixed
    # Modulation of each token, and the tables of both rotations.
    streams = tokens.gen * ((24 * d if packed else 0) + 16 * fusion.head_dim) + 8 * fusion.head_dim * tokens.und
    if stage.checkpointing:
        streams += tokens.gen * d * stream * (blocks + fusion.layers)
        units = max(one_block, one_layer)
    else:
        streams += tokens.gen * d * (stream if stream == 4 else 0) * (blocks + fusion.layers)
        units = blocks * one_block + fusion.layers * one_layer - unkept(stage, config, tokens, one_block, one_layer)
        units += 12 * tokens.noised * d  # the head, in float32
    passing = tokens.gen * (2 * size * gen["ffn_dim"] + stream * d)
    if packed and trained_of(stage, "generation") == "whole":
        passing += 24 * d * tokens.gen  # of the modulation of each token
    return Kept(int(states + latents), int(streams), int(units), copies(stage, weights, size, shard), int(passing))


def reading(config: LightBagelConfig, tokens: Tokens, base: str) -> int:
    """What the frozen VLM needs while it reads: its states, one layer's work, and of float8 a widened matrix.

    Args:
        tokens: of the largest example; smaller ones are read several at once.
    """
    text = config.understanding["text_config"]
    h, inner, und = text["hidden_size"], text["intermediate_size"], max(tokens.und, READ_TOKENS)
    size = 4 if base == "float32" else 2
    work = und * (3 * inner + 8 * h) * size + (2 * h * inner if base == "float8" else 0)
    return int(work + size * und * h * text["num_hidden_layers"])


def encoding(config: LightBagelConfig) -> int:
    """What the VAE needs for one picture of the largest size."""
    shrink = config.vae.get("patch_size") or 1
    return int(VAE_MAPS * (config.vae_image.long // shrink) ** 2 * config.vae["base_dim"] * 4)
