"""One config object describes a model completely; the nano and the 7B + 5B differ in these numbers only."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

FORMAT_VERSION = 1
NANO = Path(__file__).parent / "nano"  # the checkpoint that ships with the package
PUBLISHED = Path(__file__).parent / "lightbagel-7b-5b.json"  # the config of the model of the paper
DESCRIBE = "Describe the image"  # what describing asks when nothing else is asked

COMPONENTS = ("understanding", "generation", "fusion", "vae")
MODEL_DTYPES = {  # what a model can be opened in, by torch's name for it
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "float8": "float8_e4m3fn",
}
LOADS_CODE = re.compile("attn_implementation|experts_implementation|auto_map|quantization|kernel")  # in transformers

AttentionName = Literal["sdpa", "flash", "flash3"]  # from the slowest to the fastest
ATTENTION: tuple[AttentionName, ...] = get_args(AttentionName)
SolverName = Literal["unipc", "euler", "dpm++"]
Renorm = Literal["none", "global", "channel", "text_channel"]


@dataclass(frozen=True)
class FusionConfig:
    """The fusion stack (paper section 3.1).

    layers: MMSA layers, one after every DiT block but the last.
    und_layers, und_dim, gen_dim: depth of the VLM, hidden sizes of the VLM and of the DiT.
    heads, head_dim: of the MMSA. rope_theta, mrope_section: Qwen's, shared by both streams.
    context_len, context_dim: the learned tensor that stands in for umT5's output.
    depth: fusion depth in [0, 1]; 0 reads und layer i after block i (best), 1 reads the last layer everywhere.
    """

    layers: int
    und_layers: int
    und_dim: int
    gen_dim: int
    heads: int
    head_dim: int
    rope_theta: float
    mrope_section: tuple[int, int, int]
    context_len: int
    context_dim: int
    eps: float = 1e-6
    depth: float = 0.0

    def __post_init__(self) -> None:
        if sum(self.mrope_section) * 2 != self.head_dim:
            raise ValueError(f"mrope_section {self.mrope_section} must sum to half of head_dim {self.head_dim}")
        if not 0 <= self.depth <= 1:
            raise ValueError(f"fusion depth {self.depth} lies outside 0..1")

    def und_layer(self, layer: int) -> int:
        """The und layer whose states fusion layer `layer` reads."""
        return min(layer + round(self.depth * (self.und_layers - 1)), self.und_layers - 1)


@dataclass(frozen=True)
class ImageRule:
    """How a picture is sized: keep aspect, long side at most `long`, short side at least `short`, sides on `stride`."""

    long: int
    short: int
    stride: int


@dataclass(frozen=True)
class Defaults:
    """Sampling settings a model is used with unless asked otherwise. Sizes in pixels.

    guidance_interval, renorm: see `sampling.guidance.Guidance`.
    """

    width: int = 1024
    height: int = 1024
    steps: int = 50
    shift: float = 4.0
    text_guidance: float = 3.0
    edit_text_guidance: float = 3.0
    image_guidance: float = 1.0
    solver: SolverName = "unipc"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    renorm: Renorm = "none"


def _keys(data: Any) -> set[str]:
    """All keys of a dictionary and of those inside it."""
    if isinstance(data, dict):
        return set(data).union(*map(_keys, data.values()))
    return set().union(*map(_keys, data)) if isinstance(data, list) else set()


@dataclass(frozen=True)
class Preview:
    """A first look at latents without the VAE: RGB in -1..1 is about `latents @ factors + bias`.

    factors: [channels][3], of normalised latents. bias: [3].
    """

    factors: list[list[float]]
    bias: list[float]


@dataclass(frozen=True)
class Thinking:
    """How weights are asked that were trained to think before they draw (the authors' think variant).

    system: the text of a segment before the prompt's. max_new_tokens: of a thought.
    """

    system: str
    max_new_tokens: int = 384


@dataclass(frozen=True)
class LightBagelConfig:
    """A whole model. `understanding`, `generation` and `vae` are their libraries' own config dicts.

    thinking: None for weights that were not trained to think.
    preview: None where the VAE is Wan2.2's own, whose preview colours hosts know.
    """

    name: str
    understanding: dict[str, Any]
    processor: dict[str, Any]
    generation: dict[str, Any]
    vae: dict[str, Any]
    fusion: FusionConfig
    vae_image: ImageRule
    vit_image: ImageRule
    defaults: Defaults = field(default_factory=Defaults)
    preview: Preview | None = None
    thinking: Thinking | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def positions(self) -> int | None:
        """How many positions the VLM has; None: it says no bound."""
        most: int | None = self.understanding["text_config"].get("max_position_embeddings")
        return most

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __post_init__(self) -> None:
        """Refuses components that do not fit each other, naming both numbers, and what could bring in code."""
        strange = sorted(key for key in _keys(self.understanding) if LOADS_CODE.search(key))
        if strange:
            raise ValueError(f"the config of the understanding component must not say {', '.join(strange)}")
        und, gen, fusion = self.understanding["text_config"], self.generation, self.fusion
        gen_dim = gen["num_attention_heads"] * gen["attention_head_dim"]
        pixels = self.vae["scale_factor_spatial"] * gen["patch_size"][-1]
        pairs = {
            "fusion layers, and DiT blocks less one": (fusion.layers, gen["num_layers"] - 1),
            "fusion und_layers, and VLM layers": (fusion.und_layers, und["num_hidden_layers"]),
            "fusion und_dim, and VLM hidden size": (fusion.und_dim, und["hidden_size"]),
            "fusion gen_dim, and DiT width": (fusion.gen_dim, gen_dim),
            "fusion context_dim, and DiT text_dim": (fusion.context_dim, gen["text_dim"]),
            "DiT channels, and VAE latent channels": (gen["in_channels"], self.vae["z_dim"]),
            "vae_image stride, and pixels a DiT token covers": (self.vae_image.stride, pixels),
        }
        for names, (one, other) in pairs.items():
            if one != other:
                raise ValueError(f"the config contradicts itself: {names} are {one} and {other}")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LightBagelConfig:
        """Raises ValueError when a field is missing or unknown, or the format is newer than this code."""
        try:
            version = int(data.get("format_version", FORMAT_VERSION))
            if version > FORMAT_VERSION:
                raise ValueError(f"config.json has format {version}, this version reads up to {FORMAT_VERSION}")
            data = dict(data)
            fusion = dict(data.pop("fusion"))
            fusion["mrope_section"] = tuple(fusion["mrope_section"])
            defaults = dict(data.pop("defaults"))
            defaults["guidance_interval"] = tuple(defaults.get("guidance_interval", Defaults.guidance_interval))
            preview, thinking = data.pop("preview", None), data.pop("thinking", None)
            return cls(
                fusion=FusionConfig(**fusion),
                vae_image=ImageRule(**data.pop("vae_image")),
                vit_image=ImageRule(**data.pop("vit_image")),
                defaults=Defaults(**defaults),
                preview=preview and Preview(**preview),
                thinking=thinking and Thinking(**thinking),
                **data,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"config.json is not a LightBagel config: {error}") from error
