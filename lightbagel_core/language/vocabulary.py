"""Which VLMs can write freely: Qwen2.5-VL can, the nano's cannot."""

from __future__ import annotations

from ..model.understanding import Understanding

ODD = "\u2603"  # a letter that no closed vocabulary has; an open one writes it in bytes


def closed(und: Understanding) -> bool:
    """Whether the VLM's tokenizer has words for a few things only."""
    unknown = und.tokenizer.unk_token_id
    return unknown is not None and unknown in und.tokenizer(ODD, add_special_tokens=False)["input_ids"]


def check_writes(und: Understanding, task: str) -> None:
    """Raises ValueError where the VLM cannot write freely. task: what it is asked to do, as in "rewrite a prompt"."""
    if closed(und):
        raise ValueError(
            f"the nano cannot {task}: its VLM knows a hundred words and was taught to describe pictures; open a model "
            "with Qwen2.5-VL-7B-Instruct"
        )
