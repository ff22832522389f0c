"""What travels in LightBagel's CONDITIONING: the und states as its tensor, and beside them what they stand for."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.conds
import torch
from torch import Tensor

from ...lightbagel_core.config import FusionConfig
from ...lightbagel_core.model.sequence import SIDES, ImageSegment, Segment, TextSegment
from .say import once

KEY = "lightbagel"  # in `model_conds`, and of our wrappers and additional models
MARK = (1.0, -1.0, -1.0, 1.0)  # how a conditioning's first row begins; then 1 for a text alone or 0; all else is 0
AHEAD = 1 + 2 * SIDES  # rows before a conditioning's own: the mark, and the target's markers for each size
OTHERS = {  # what nodes for other models write beside a text, by which of them
    "guidance": "the guidance of FluxGuidance and its like",
    "aesthetic_score": "the score of CLIPTextEncodeSDXLRefiner",
    "width": "the size that a text encode node of another model was given",
}


@dataclass(frozen=True, eq=False)
class Sources:
    """What stands beside the und states in a CONDITIONING, among its `model_conds` under `KEY`.

    segments: all segments before the target, in sequence order.
    latents: of each, [1, C, h, w] of a clean image, as a VAE gives them, else None.
    keys: of each; equal where two prompts were encoded after the same pictures, while nobody has changed the states.
    given: the und states as the text encoder gave them.
    parts: what the segments hold, as `tokens.read` gives it, earlier turns first; None where that is not known any
        more. encoder: whose they are, told from others by this object.
    """

    segments: tuple[Segment, ...]
    latents: tuple[Tensor | None, ...]
    keys: tuple[Hashable, ...]
    given: Callable[[], Tensor | None]
    parts: tuple[Any, ...] | None = None
    encoder: object = None

    @property
    def images(self) -> list[Tensor]:
        """The clean source images' latents."""
        return [latents for latents in self.latents if latents is not None]


NOTHING = Sources((), (), (), lambda: None, ())


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

    def can_concat(self, other: Any, **kwargs: Any) -> bool:
        return isinstance(other, Rows)

    def concat(self, others: list[Rows], **kwargs: Any) -> tuple[Row, ...]:
        return sum((other.cond for other in others), self.cond)

    def size(self, **kwargs: Any) -> list[int]:
        return [len(self.cond), *max((row.states for row in self.cond), key=len).shape]


@dataclass(frozen=True, eq=False)
class Read:
    """Keys and values of all und tokens in a CONDITIONING, so that the VLM can go on from there.

    turns: one tensor [depth, 2, heads, n, head_dim] for each turn, which later turns have in common with it.
    weights: tells the weights they were made with from others.
    """

    turns: tuple[Tensor, ...]
    weights: Hashable


GIVEN: dict[int, Sources] = {}  # of living tensors, by id
READ: dict[int, Read] = {}  # the same


def plain(sources: Sources) -> list[tuple[str, Any]]:
    """What stands beside und states as (name, value) pairs of plain lists and tensors, to be written to a file."""
    segments = [
        ["text", each.length] if isinstance(each, TextSegment) else [each.kind, each.rows, each.cols]
        for each in sources.segments
    ]
    return [("segments", segments), ("latents", list(sources.latents))]


def restored(found: Mapping[str, Any], states: Tensor) -> Sources:
    """What stands beside und states, of its plain form; its pictures have nothing in common with others any more."""
    segments = tuple(
        TextSegment(*numbers) if kind == "text" else ImageSegment(kind, *numbers)
        for kind, *numbers in found["segments"]
    )
    return Sources(segments, tuple(found["latents"]), tuple(object() for _ in segments), weakref.ref(states))


class Unread(comfy.conds.CONDRegular):
    """`Sources` in a CONDITIONING, until `Rows` take its place; a model that leaves it there does not read it."""

    def __init__(self, sources: Sources) -> None:
        super().__init__(sources)

    def __reduce__(self) -> tuple[Any, ...]:
        """As plain lists and tensors, which are what ComfyUI's nodes for training data read from a file."""
        return OrderedDict, (plain(self.cond),)

    def __copy__(self) -> Unread:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Unread:
        return self  # nothing of it changes

    def process_cond(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(
            "this conditioning is LightBagel's, but the MODEL does not listen to it. Use the MODEL of Load LightBagel, "
            "or put Apply LightBagel Fusion behind the loader of a Wan2.2-TI2V-5B. If that is done, the node samples "
            "by code of its own, past the hooks by which a MODEL listens: use ComfyUI's own samplers."
        )


def marked(states: Tensor, pictures: bool) -> Tensor:
    """Und states [1, N, D] after a row that marks them as LightBagel's, and says whether pictures are among them.

    The row goes through what nodes do with conditionings (scale, mix, join them) and tells of it, also where they keep
    nothing else than the tensor.
    """
    row = states.new_zeros(1, 1, states.shape[2])
    row[..., : len(MARK) + 1] = row.new_tensor([*MARK, float(not pictures)])
    return torch.cat([row, states], dim=1)


def remember(sources: Sources, states: Tensor, read: Read | None = None) -> None:
    """Keeps, as long as the tensor lives, what stands beside the und states that an encoder gave, and what was read."""
    GIVEN[id(states)] = sources
    weakref.finalize(states, GIVEN.pop, id(states), None).atexit = False
    if read is not None:
        READ[id(states)] = read
        weakref.finalize(states, READ.pop, id(states), None).atexit = False


def sources_beside(conds: dict[str, Any], states: Tensor) -> Sources | None:
    """What stands beside und states: among a condition's `model_conds`, there also as it was read from a file, or
    remembered of the encoder's own tensor.
    """
    if KEY in conds:
        found = conds[KEY]
        return restored(found, states) if isinstance(found, Mapping) else found.cond
    sources = GIVEN.get(id(states))
    return sources if sources and sources.given() is states else None


def sources_of_text(states: Tensor, config: FusionConfig) -> Sources | None:
    """What stood beside the und states of texts alone, which a node has mixed, keeping only the tensor; else None."""
    head = len(MARK) + 1
    if states.shape[1] < AHEAD + 2 or states.shape[2] != config.und_layers * config.und_dim:
        return None
    first = states[:, 0].float()
    text = first.new_tensor([*MARK, 1.0])
    scale = first[:, :1]
    if bool((scale == 0).any()) or not torch.allclose(first[:, :head] / scale, text.expand(len(first), -1), atol=1e-2):
        return None
    if bool((states[:, 1:, head:] == 0).all(-1).any()):  # a second mark: it was joined from several
        return None
    return Sources((TextSegment(states.shape[1] - AHEAD),), (None,), (object(),), weakref.ref(states))


def say_unread(conds: dict[str, Any]) -> None:
    """Says in the log what nodes for other models have written into the conditions of a run."""
    for name in {name for each in conds.values() for cond in each or () for name in cond} & OTHERS.keys():
        once(f"{OTHERS[name]} does not act: LightBagel does not read {name!r} from a conditioning")


def say_if_scaled(states: Tensor) -> None:
    """Says in the log that a factor on und states does nothing."""
    scale = float(states[0, 0, 0])
    exact = bool((states[0, 0, : len(MARK)] == states.new_tensor(MARK) * scale).all())
    if scale > 0 and abs(scale - 1) > 1e-2 and exact:
        once(
            f"a conditioning was multiplied by {scale:g} (ConditioningMultiply), which does not act: LightBagel "
            "normalises what it reads. For a stronger prompt raise the guidance, or use ConditioningSetAreaStrength "
            "where several are combined."
        )


def checked(conds: dict[str, Any], config: FusionConfig) -> tuple[Sources, Tensor]:
    """The sources and marked und states [B, AHEAD + U, depth * und_dim] of a condition's `model_conds`.

    Raises:
        ValueError: it is another encoder's, another checkpoint's, or was changed into what LightBagel cannot read.
    """
    states = conds["c_crossattn"].cond
    sources = sources_beside(conds, states) or sources_of_text(states, config)
    if sources is None and states.shape[2] == config.und_layers * config.und_dim:
        raise ValueError(
            "a node has changed LightBagel's conditioning and left out what stands beside its tensor (source pictures, "
            "and where its tokens are): only a mix of prompts without pictures can be read then. Leave that node out, "
            "or mix with ConditioningCombine or ConditioningAverage."
        )
    if sources is None:
        raise ValueError(
            "this MODEL listens to LightBagel's own text encoder, but a conditioning came from another one. Encode "
            "the prompt with the CLIP of the LightBagel loader."
        )
    if {"reference_latent", "context_latents"} & conds.keys():
        raise ValueError(
            "LightBagel does not hear a ReferenceLatent: connect the picture and the VAE to LightBagel Text Encode"
        )
    if states.shape[2] != config.und_layers * config.und_dim:
        raise ValueError(
            "this conditioning is of another LightBagel checkpoint than the MODEL's fusion stack; use the CLIP and "
            "the fusion stack of one checkpoint"
        )
    if states.shape[1] != AHEAD + sum(segment.und_tokens for segment in sources.segments):
        raise ValueError(
            "this conditioning was joined from several (ConditioningConcat), which LightBagel's cannot be: its "
            "tokens have places in one sequence. Write one prompt, or use ConditioningCombine."
        )
    say_if_scaled(states)
    return sources, states


def rows_of(sources: Sources, states: Tensor, latents: tuple[Tensor | None, ...]) -> tuple[Row, ...]:
    """The samples of a condition, one for each of the marked states [B, AHEAD + U, depth * und_dim].

    ComfyUI's nodes may replace the states and keep what stands beside them: zero them (ConditioningZeroOut), mix them
    (ConditioningAverage), stack them. Such samples have nothing in common with others any more.
    """
    if len(states) == 1 and sources.given() is states:
        return (Row(states[0, 1:], sources.segments, latents, sources.keys),)
    return tuple(Row(row[1:], sources.segments, latents, tuple(object() for _ in sources.keys)) for row in states)
