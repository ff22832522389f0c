"""Conversations with the VLM: the stock Qwen2.5-VL with its own chat template, causal attention and `generate`.

The drawing path has no part in it (see `understanding`). Words come out while they are made, and a conversation that
goes on does not run the ViT again over a picture it has seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList, TextStreamer
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .understanding import IM_END, IMAGE_PAD, Understanding

Turn = tuple[Sequence[Image.Image], str]  # RGB images, and one question about all of them
OnText = Callable[[str], bool | None]  # of all the words so far; returning False ends the answer there


@dataclass(frozen=True, eq=False)
class Talk:
    """A conversation whose last message is to be answered, where one question about pictures does not say it all.

    messages: of each its role ("system", "user" or "assistant") and its RGB images and texts in the order of reading.
    """

    messages: Sequence[tuple[str, Sequence[Image.Image | str]]]


@dataclass(frozen=True)
class Answer:
    """What the VLM said. cut: whether it was at its `max_new_tokens`, before it had come to an end."""

    text: str
    cut: bool = False


@dataclass(eq=False)
class Looked:
    """What the ViT made of the pictures of a conversation, while its weights stay as they are.

    features: by the id of a picture, the picture itself, which so keeps its id, and its tokens, on the CPU: a large
        photo's take a hundred megabytes.
    """

    features: dict[int, tuple[Image.Image, Tensor]] = field(default_factory=dict)


class _WhenTold(StoppingCriteria):
    """Ends an answer when its listener has returned False, or never without one."""

    def __init__(self) -> None:
        self.told = False

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self.told, dtype=torch.bool, device=input_ids.device)


class _Words(TextStreamer):
    """transformers' own streamer, which gives whole words, telling a listener all of them so far."""

    def __init__(self, tokenizer: Any, on_text: OnText, stop: _WhenTold) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.on_text, self.stop, self.so_far = on_text, stop, ""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.so_far += text
        if text and self.on_text(self.so_far.strip()) is False:
            self.stop.told = True


def check(und: Understanding, talk: Talk) -> None:
    """Raises ValueError where a conversation holds words that `Understanding.words_to_ids` refuses, or where the
    tokenizer has no chat template.
    """
    if not und.tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template, so that nothing can be asked: use the tokenizer files of "
            "Qwen2.5-VL-7B-Instruct, with their chat_template.json (or .jinja)"
        )
    for role, parts in talk.messages:
        for text in (role, *(part for part in parts if isinstance(part, str))):
            und.words_to_ids(text)


def chat_inputs(und: Understanding, turns: Sequence[Turn | Talk]) -> dict[str, Tensor]:
    """Inputs of the stock model for a batch of conversations, in its own chat template, padded on the left.

    `input_ids` and `attention_mask` are [B, N]; `pixel_values` and `image_grid_thw` hold the images of all turns one
    after the other, and are absent without any.

    Raises:
        ValueError: see `check`.
    """
    talks = [_talk(turn) for turn in turns]
    for talk in talks:
        check(und, talk)
    chats = [[{"role": role, "content": _content(parts)} for role, parts in talk.messages] for talk in talks]
    texts = und.tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    inputs: dict[str, Tensor] = {}
    seen = _pictures(talks)
    if seen:
        pixels, grid = und.pixel_values(seen)
        inputs |= {"pixel_values": pixels, "image_grid_thw": grid}
        counts = iter((grid.prod(-1) // und.processor.merge_size**2).tolist())
        texts = [re.sub(re.escape(IMAGE_PAD), lambda _: IMAGE_PAD * next(counts), text) for text in texts]
    rows = und.tokenizer(texts, add_special_tokens=False)["input_ids"]
    length = max(map(len, rows))
    fill = und.token_id(IM_END)  # in every turn anyway: a penalty on repetition finds nothing new in the padding
    ids = torch.tensor([[fill] * (length - len(row)) + row for row in rows], device=und.device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=und.device)
    return inputs | {"input_ids": ids, "attention_mask": mask} | und.image_token_types(ids)


@torch.no_grad()
def answer_ids(
    und: Understanding,
    turns: Sequence[Turn | Talk],
    on_text: OnText | None = None,
    looked: Looked | None = None,
    stops: Sequence[StoppingCriteria] = (),
    **options: Any,
) -> list[list[int]]:
    """Token ids of the stock model's answer to each turn, each up to its end marker: one `generate` for all.

    Args:
        on_text: told all the words of one turn's answer so far, as they are made, and may end it.
        looked: what the ViT has made of pictures in earlier calls; pictures that are new are added.
        stops: what is asked after every token whether to end there, and may raise.
        options: those of the stock `generate`.

    Raises:
        ValueError: see `check`; `on_text` of several turns; more tokens than the VLM has positions for.
    """
    if on_text is not None and len(turns) > 1:
        raise ValueError("words are told while they are made for one conversation at a time, not for a batch")
    inputs = chat_inputs(und, turns)
    count, most = inputs["input_ids"].shape[1], int(und.vlm.config.get_text_config().max_position_embeddings)
    if count >= most:
        raise ValueError(
            f"what the VLM is to answer is {count} tokens long, and it reads fewer than {most}: shorten the words, or "
            "show it fewer or smaller pictures or turns"
        )
    told = _WhenTold()
    if on_text is not None:
        options["streamer"] = _Words(und.tokenizer, on_text, told)
    once = looking_once(und, _pictures(map(_talk, turns)), looked) if looked is not None else nullcontext()
    with once:
        output = und.vlm.generate(**inputs, stopping_criteria=StoppingCriteriaList([told, *stops]), **options)
    ids: list[list[int]] = output[:, inputs["input_ids"].shape[1] :].tolist()
    ends = end_tokens(und)
    # `generate` fills the shorter answers of a batch up.
    return [row[: next((i + 1 for i, token in enumerate(row) if token in ends), None)] for row in ids]


def answers(und: Understanding, turns: Sequence[Turn | Talk], max_new_tokens: int = 128, **options: Any) -> list[str]:
    """The stock model's greedy answer to each turn.

    In float32 a turn's answer is what it is alone; in fewer bits a batch rounds otherwise.

    Args:
        options: `answer_ids`', and more of the stock `generate`.
    """
    options = {"max_new_tokens": max_new_tokens, "do_sample": False} | options
    return [in_words(und, ids).text for ids in answer_ids(und, turns, **options)]


def answer(und: Understanding, talk: Turn | Talk, max_new_tokens: int = 128, **options: Any) -> Answer:
    """The stock model's answer to one conversation, greedy unless `options` say otherwise (see `answers`)."""
    options = {"max_new_tokens": max_new_tokens, "do_sample": False} | options
    return in_words(und, answer_ids(und, [talk], **options)[0], max_new_tokens)


def in_words(und: Understanding, ids: Sequence[int], max_new_tokens: int | None = None) -> Answer:
    """An answer's tokens in words; whether it was cut by a bound on their number."""
    cut = len(ids) == max_new_tokens and not end_tokens(und).intersection(ids[-1:])
    return Answer(str(und.tokenizer.decode(ids, skip_special_tokens=True)).strip(), cut)


def without_markers(und: Understanding, text: str) -> str:
    """An answer as it can stand in a conversation that goes on: without the tokenizer's added words (`<tool_call>`),
    which `check` refuses in what people write.
    """
    for token in und.tokenizer.get_added_vocab():
        text = text.replace(token, "")
    return text.strip()


def end_tokens(und: Understanding) -> set[int]:
    """The tokens with which an answer ends."""
    ends = und.vlm.generation_config.eos_token_id  # one, several or none
    return {end for end in (ends if isinstance(ends, list) else [ends]) if end is not None}


@contextmanager
def looking_once(und: Understanding, pictures: Sequence[Image.Image], looked: Looked) -> Iterator[None]:
    """Inside, the stock model asks for the ViT's tokens of these pictures, in this order, and the ViT runs over those
    only that `looked` does not hold yet (docs/hosts.md, transformers-14).
    """
    model = und.vlm.model
    stock = model.get_image_features

    def features(pixel_values: Tensor, image_grid_thw: Tensor, **kwargs: Any) -> Any:
        known = looked.features
        rows = pixel_values.split(image_grid_thw.prod(-1).tolist())
        new = {id(p): i for i, p in enumerate(pictures) if id(p) not in known}
        if new:
            at = list(new.values())
            made = stock(torch.cat([rows[i] for i in at]), image_grid_thw[at], **kwargs)
            for i, tokens in zip(at, getattr(made, "pooler_output", made), strict=True):
                known[id(pictures[i])] = pictures[i], tokens.cpu().clone()  # a part of a tensor would keep all of it
        found = tuple(known[id(picture)][1] for picture in pictures)
        # transformers 4.57 takes the tuple itself
        return BaseModelOutputWithPooling(pooler_output=found) if "mm_token_type_ids" in und.arguments else found

    model.get_image_features = features
    try:
        yield
    finally:
        del model.get_image_features


def _talk(turn: Turn | Talk) -> Talk:
    return turn if isinstance(turn, Talk) else Talk([("user", [*turn[0], turn[1]])])


def _pictures(talks: Any) -> list[Image.Image]:
    return [part for talk in talks for _, parts in talk.messages for part in parts if not isinstance(part, str)]


def _content(parts: Sequence[Image.Image | str]) -> list[dict[str, str]]:
    """The parts of a message as chat templates read them."""
    return [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
