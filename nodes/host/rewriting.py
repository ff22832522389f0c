"""Prompts written anew by the VLM inside a CLIP."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from ...lightbagel_core.language.rewriting import Rewritten, read_rewritten, talk_of
from ...lightbagel_core.language.vocabulary import check_writes
from ...lightbagel_core.model.chat import check
from .asking import answer
from .encoding import encoder_of
from .images import pictures
from .say import once
from .telling import in_the_node


def rewrite(
    clip: Any,
    prompt: str,
    batches: Sequence[torch.Tensor],
    task: str,
    system_prompt: str | None,
    thinking: bool,
    max_length: int,
    sampling_mode: dict[str, Any],
) -> Rewritten:
    """A prompt as the VLM of a CLIP writes it anew; its words stand in the node while they are made.

    Args:
        system_prompt: empty: our own, in the language of the prompt.

    Raises:
        ValueError: see `talk_of`, `read_rewritten`, `check_writes` and `check`, all before the VLM is loaded, but for
            the second; the CLIP is another model's.
    """
    encoder, told = encoder_of(clip), in_the_node()
    check_writes(encoder.und, "rewrite a prompt")
    own_system_prompt = system_prompt if (system_prompt or "").strip() else None
    talk = talk_of(prompt, pictures(batches), task, own_system_prompt, thinking)
    check(encoder.und, talk)
    if thinking and encoder.config.thinking is not None:
        once(
            "these weights were trained to think in a form of their own, which ComfyUI's nodes do not have yet: this "
            "thought is an answer in words. The command line has their own form (--think)"
        )
    found = answer(clip, talk, max_length, sampling_mode, told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a cut answer, which the log has told of
        rewritten = read_rewritten(found, thinking)
    if rewritten.prompt != found.text:
        told.at_last(rewritten.prompt)  # without the thought before it
    return rewritten
