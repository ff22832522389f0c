"""What nodes of ours ask the VLM inside a CLIP, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...lightbagel_core.model.chat import Answer, OnText, in_words
from .say import warn
from .telling import Told


@dataclass(frozen=True, eq=False)
class Asked:
    """What `CLIP.generate` takes in place of token lists, which hold one question and no more.

    what: a conversation to answer, or the token lists of a question.
    on_text: who is told the words while they are made.
    """

    what: Any
    on_text: OnText | None = None


def answer(clip: Any, what: Any, max_length: int, sampling_mode: dict[str, Any], told: Told) -> Answer:
    """What the VLM of a CLIP of ours answers, where ComfyUI has loaded it; the log says so where it was cut.

    Args:
        what: a `Talk`, or token lists.
        sampling_mode: of the node, with the settings that it shows.
        told: is told the words while they are made.
    """
    settings = {name: value for name, value in sampling_mode.items() if name != "sampling_mode"}
    sampled = sampling_mode["sampling_mode"] == "on"
    ids = clip.generate(Asked(what, told), do_sample=sampled, max_length=max_length, **settings)
    found = in_words(clip.cond_stage_model.und, ids, max_length)
    told.at_last(found.text)
    if found.cut:
        warn(f"an answer was cut at its max_length, {max_length} tokens, before it had come to an end: raise it")
    return found
