"""A CONDITIONING as the earlier turns of another one: what it must carry, and what cannot be gone on from."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .clip import TextEncoder
from .conditioning import Sources, sources_beside
from .say import once
from .tokens import Earlier, Source

STRAIGHT = "Connect the history input straight to the LightBagel Text Encode of the turn before."
UNHEARD = {  # what nodes write beside a conditioning to say where and when it counts
    "area": "an area",
    "mask": "a mask",
    "strength": "a strength",
    "start_percent": "a range of steps",
}


def earlier(history: Any, encoder: TextEncoder) -> Earlier:
    """The earlier turns that a CONDITIONING holds, whoever drew of it.

    Raises:
        ValueError: it is another model's, several prompts', or was changed or loaded so that its words and pictures are
            not known.
    """
    found = [_entry(states, beside, encoder) for states, beside in history]
    if not found:
        raise ValueError(f"the history is an empty conditioning. {STRAIGHT}")
    if any(each.sources.parts != found[0].sources.parts for each in found):
        raise ValueError(
            "the history holds several prompts (ConditioningCombine), and only one can have been said in a turn. "
            f"{STRAIGHT}"
        )
    parts = found[0].sources.parts or ()
    if sum(not isinstance(part, Source) for part in parts) > 1:
        once(
            "more than one earlier turn stands before a prompt. LightBagel was trained with one at most: this is "
            "untrained ground, and pictures may get worse the longer the history is"
        )
    if not any(parts[-1:]):  # the last one is a text, empty on a negative side
        once("the history says nothing in its last turn: give the negative side the same history as the positive")
    return found[0]


def _entry(states: Tensor, beside: dict[str, Any], encoder: TextEncoder) -> Earlier:
    """One entry of a CONDITIONING; of a CLIP whose LoRAs are scheduled it has several, of one and the same prompt."""
    sources = sources_beside(beside.get("model_conds", {}), states)
    fusion = encoder.config.fusion
    if sources is None and states.shape[-1] != fusion.und_layers * fusion.und_dim:
        raise ValueError(f"the history comes from another model's text encoder. {STRAIGHT}")
    if sources is None or sources.given() is not states:
        raise ValueError(
            "a node has changed the history on its way (zeroed, averaged, multiplied or joined it), so that it is no "
            f"longer what was said. {STRAIGHT}"
        )
    _check(sources, beside, encoder)
    return Earlier(states, sources)


def _check(sources: Sources, beside: dict[str, Any], encoder: TextEncoder) -> None:
    """Raises ValueError when the words and pictures of a history are not known, or are another encoder's."""
    if sources.parts is None:
        raise ValueError(f"the history was loaded from a file, which does not hold its words and pictures. {STRAIGHT}")
    if sources.encoder is not encoder.mark:
        raise ValueError(
            "the history was encoded with another CLIP than this prompt is to be. Connect both LightBagel Text Encode "
            "nodes to the CLIP of one Load LightBagel."
        )
    if "reference_latents" in beside:
        raise ValueError(
            "LightBagel does not hear a ReferenceLatent: connect the picture and the VAE to LightBagel Text Encode"
        )
    for name in UNHEARD.keys() & beside.keys():
        once(f"{UNHEARD[name]} on a history does not act: what was said before counts everywhere and at every step")
