"""Thoughts of weights that were trained to think before they draw (docs/model.md, section 11).

Such a thought is no answer of a chat: it is decoded from the very context of the drawing, which it then belongs to.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ..config import Thinking
from ..model.chat import Answer, OnText, end_tokens
from ..model.forward import Content, pack_samples
from ..model.reading import Reading
from ..model.understanding import IM_END, Understanding
from ..sampling.branches import thinking_branches

Think = bool | Literal["feed"]  # whether to think before drawing; "feed": see `fed`
FED = (
    "a thought is fed to weights that were never trained on one: an experiment, and the picture may be worse than "
    "without it"
)


@dataclass(frozen=True, eq=False)
class Thought:
    """What is drawn after a thought.

    branches: the contents before the target of each guidance branch. reading: what the VLM has read of them.
    """

    text: str
    branches: dict[str, list[Content]]
    reading: Reading


def has_thought(thinking: Thinking | None, think: Think, negative: str = "") -> bool:
    """Whether a drawing stands after a thought that is a segment of its own, rather than after a prompt alone.

    Args:
        thinking: of the model's config. think: what is asked for.

    Raises:
        ValueError: what is asked for is not known, feeds a thought to weights that make their own, or has a negative
            prompt, which no branch of such guidance has room for.
    """
    if not isinstance(think, bool) and think != "feed":
        raise ValueError(f"think must be True, False or 'feed', not {think!r}")
    if think == "feed" and thinking is not None:
        raise ValueError("these weights were trained to think, and need no thought that is fed to them: use think=True")
    own = bool(think) and (think == "feed" or thinking is not None)
    if own and negative.strip():
        raise ValueError(
            "a drawing after a thought is guided away from the pictures alone, which leaves no place for a negative "
            "prompt: leave it out, or do not think"
        )
    return own


def thought_of(
    und: Understanding,
    thinking: Thinking,
    pictures: Sequence[Content],
    prompt: str,
    patch: int,
    on_text: OnText | None = None,
) -> Thought:
    """Thinks about a prompt in the authors' form: pictures, system text, prompt, thought, each a segment of its own.

    Args:
        pictures: of each the clean VAE and the ViT contents that it has.
        patch: the DiT's latents per token side.
        on_text: told all words of the thought so far, as they are made; returning False ends it there.

    Raises:
        ValueError: an unknown word, an empty thought, or one with a marker of the model's in it.
    """
    reading = Reading()
    asked = [und.text_ids(thinking.system), und.text_ids(prompt)]
    answer = decode(und, [*pictures, *asked], patch, thinking.max_new_tokens, on_text, reading)
    if not answer.text.strip():
        raise ValueError("the thought ended before its first word: word the prompt otherwise, or do not think")
    if answer.cut:
        warnings.warn(
            f"the thought was cut at {thinking.max_new_tokens} tokens (thinking.max_new_tokens of the model's "
            "config.json); the picture is drawn after what there is of it",
            stacklevel=2,
        )
    try:
        texts = [*asked, und.text_ids(answer.text)]
    except ValueError as error:
        raise ValueError(f"the VLM cannot read its own thought: {error}. It was: {answer.text}") from None
    return Thought(answer.text, thinking_branches(pictures, texts), reading)


def fed(und: Understanding, pictures: Sequence[Content], prompt: str, thought: str) -> Thought:
    """EXPERIMENTAL. The same form for weights that were never trained on it: pictures, prompt, and a thought that the
    VLM gave in a chat. There is no system text.

    Raises:
        ValueError: as `Understanding.text_ids`.
    """
    warnings.warn(FED, stacklevel=2)
    branches = thinking_branches(pictures, [und.text_ids(prompt), und.text_ids(thought)])
    return Thought(thought, branches, Reading())


@torch.no_grad()
def decode(
    und: Understanding,
    context: Sequence[Content],
    patch: int,
    max_new_tokens: int,
    on_text: OnText | None = None,
    reading: Reading | None = None,
) -> Answer:
    """The words with which the VLM goes on after the segments of a context, greedily: from a line break, outside of
    any segment, to the next `<|im_end|>`; without the line breaks they begin with.

    Args:
        reading: what was read before; the context is added to it.

    Raises:
        ValueError: the tokenizer has no line break.
    """
    begin: list[int] = und.tokenizer("\n", add_special_tokens=False)["input_ids"]
    if not begin:
        raise ValueError(
            "the tokenizer has no line break, with which a thought begins: the nano's VLM knows a hundred words, and "
            "cannot think; open a model with Qwen2.5-VL"
        )
    tokens = pack_samples([context], patch, (1, 1))  # the target's size is nothing to what stands before it
    cache = (Reading() if reading is None else reading).cache(und, tokens)
    place = int(tokens.positions[0, -2])  # where the target's first marker would stand
    ends = {und.token_id(IM_END)} | end_tokens(und)

    def after(token: int, place: int) -> int:
        """The likeliest token after one at this place, and after all before it."""
        embedding = und.vlm.get_input_embeddings()(torch.tensor([[token]], device=und.device))
        positions = torch.full((3, 1, 1), place, device=und.device)
        visible = torch.ones(1, 1, cache.get_seq_length() + 1, dtype=torch.bool, device=und.device)
        state = und.und_states(embedding, positions, visible, cache)[-1]
        return int(und.vlm.lm_head(und.vlm.model.language_model.norm(state))[0, 0].argmax())

    for token in begin:
        following, place = after(token, place), place + 1
    ids: list[int] = []
    text = ""
    while following not in ends:
        if len(ids) == max_new_tokens:
            return Answer(text, cut=True)
        ids.append(following)
        text = str(und.tokenizer.decode(ids)).lstrip("\n")
        # A letter may be of several tokens.
        if on_text is not None and text.strip() and not text.endswith("\ufffd") and on_text(text) is False:
            break
        following, place = after(following, place), place + 1
    return Answer(text)
