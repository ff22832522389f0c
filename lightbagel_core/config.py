"""One config object describes a model completely; the nano and the 7B + 5B differ in these numbers only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FORMAT_VERSION = 1


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
    """Sampling settings a model is used with unless asked otherwise. Sizes in pixels."""

    width: int = 1024
    height: int = 1024
    steps: int = 50
    shift: float = 4.0
    text_guidance: float = 3.0
    image_guidance: float = 1.0
    solver: Literal["unipc", "euler", "dpm++"] = "unipc"


@dataclass(frozen=True)
class LightBagelConfig:
    """A whole model. `understanding`, `generation` and `vae` are their libraries' own config dicts."""

    name: str
    understanding: dict[str, Any]
    processor: dict[str, Any]
    generation: dict[str, Any]
    vae: dict[str, Any]
    fusion: FusionConfig
    vae_image: ImageRule
    vit_image: ImageRule
    defaults: Defaults = field(default_factory=Defaults)
    metadata: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LightBagelConfig:
        """Raises ValueError when a field is missing or unknown, or the format is newer than this code."""
        if data.get("format_version", 0) > FORMAT_VERSION:
            raise ValueError(
                f"config.json has format {data['format_version']}, this version reads up to {FORMAT_VERSION}"
            )
        try:
            data = dict(data)
            fusion = dict(data.pop("fusion"))
            fusion["mrope_section"] = tuple(fusion["mrope_section"])
            return cls(
                fusion=FusionConfig(**fusion),
                vae_image=ImageRule(**data.pop("vae_image")),
                vit_image=ImageRule(**data.pop("vit_image")),
                defaults=Defaults(**data.pop("defaults")),
                **data,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"config.json is not a LightBagel config: {error}") from error
