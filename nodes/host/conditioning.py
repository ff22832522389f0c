"""What travels in LightBagel's CONDITIONING: the und states as its tensor, and beside them what they stand for."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import comfy.conds
from torch import Tensor

from ...lightbagel_core.config import FusionConfig
from ...lightbagel_core.model.sequence import SIDES, Segment

KEY = "lightbagel"  # in `model_conds`, and of our wrappers and additional models


@dataclass(frozen=True, eq=False)
class Sources:
    """What stands beside the und states in a CONDITIONING, among its `model_conds` under `KEY`.

    segments: all segments before the target, in sequence order.
    latents: of each, [1, C, h, w] of a clean image, as a VAE gives them, else None.
    keys: of each; equal where two prompts were encoded after the same pictures, while nobody has changed the states.
    given: the und states as the text encoder gave them.
    """

    segments: tuple[Segment, ...]
    latents: tuple[Tensor | None, ...]
    keys: tuple[Hashable, ...]
    given: weakref.ref[Tensor]

    @property
    def images(self) -> list[Tensor]:
        """The clean source images' latents."""
        return [latents for latents in self.latents if latents is not None]


@dataclass(frozen=True, eq=False)
class Row:
    """One sample of a batch: und states for any size [2 * SIDES + U, depth * und_dim], and what they stand for.

    latents: of each segment, [C, h, w] of a clean image, normalised. keys: equal only where the tokens are equal.
    """

    states: Tensor
    segments: tuple[Segment, ...]
    latents: tuple[Tensor | None, ...]
    keys: tuple[Hashable, ...]


class Rows(comfy.conds.CONDRegular):
    """A condition of whole samples, which may differ in length and still share a batch."""

    def process_cond(self, batch_size: int, **kwargs: Any) -> Rows:
        return Rows(tuple(self.cond[i % len(self.cond)] for i in range(batch_size)))

    def can_concat(self, other: Any) -> bool:
        return isinstance(other, Rows)

    def concat(self, others: list[Rows]) -> tuple[Row, ...]:
        return sum((other.cond for other in others), self.cond)

    def size(self) -> list[int]:
        return [len(self.cond), *max((row.states for row in self.cond), key=len).shape]


class Unread(comfy.conds.CONDRegular):
    """`Sources` in a CONDITIONING, until `Rows` take its place; a model that leaves it there does not read it."""

    def __init__(self, sources: Sources) -> None:
        super().__init__(sources)

    def process_cond(self, **kwargs: Any) -> Any:
        raise ValueError(
            "this conditioning is LightBagel's, but the MODEL does not listen to it. Use the MODEL of Load LightBagel, "
            "or put Apply LightBagel Fusion behind the loader of a Wan2.2-TI2V-5B."
        )


def checked(conds: dict[str, Any], config: FusionConfig) -> tuple[Sources, Tensor]:
    """The sources and und states [B, 2 * SIDES + U, depth * und_dim] of a condition's `model_conds`.

    Raises:
        ValueError: it is another encoder's, another checkpoint's, or was changed into what LightBagel cannot read.
    """
    if KEY not in conds:
        raise ValueError(
            "this MODEL listens to LightBagel's own text encoder, but a conditioning came from another one, or "
            "from scheduled CLIP hooks. Encode the prompt with the CLIP of the LightBagel loader, without schedule."
        )
    if {"reference_latent", "context_latents"} & conds.keys():
        raise ValueError(
            "LightBagel does not hear a ReferenceLatent: connect the picture and the VAE to LightBagel Text Encode"
        )
    sources, states = conds[KEY].cond, conds["c_crossattn"].cond
    if states.shape[2] != config.und_layers * config.und_dim:
        raise ValueError(
            "this conditioning is of another LightBagel checkpoint than the MODEL's fusion stack; use the CLIP and "
            "the fusion stack of one checkpoint"
        )
    if states.shape[1] != 2 * SIDES + sum(segment.und_tokens for segment in sources.segments):
        raise ValueError(
            "this conditioning was joined from several (ConditioningConcat), which LightBagel's cannot be: its "
            "tokens have places in one sequence. Write one prompt, or use ConditioningCombine."
        )
    return sources, states


def rows_of(sources: Sources, states: Tensor, latents: tuple[Tensor | None, ...]) -> tuple[Row, ...]:
    """The samples of a condition, one for each of the states [B, 2 * SIDES + U, depth * und_dim].

    ComfyUI's nodes may replace the states and keep what stands beside them: zero them (ConditioningZeroOut), mix them
    (ConditioningAverage), stack them. Such samples have nothing in common with others any more.
    """
    if len(states) == 1 and sources.given() is states:
        return (Row(states[0], sources.segments, latents, sources.keys),)
    return tuple(Row(row, sources.segments, latents, tuple(object() for _ in sources.keys)) for row in states)
