"""What the VLM is taught in a step: conversations about pictures, and the sequences of the drawing path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...model.understanding import Understanding
from ...world.scenes import Scene, random_scene
from ...world.sentences import DESCRIBE, caption, random_edit, random_prompt, random_question
from .codes import IGNORE, cell_codes, meant, scene_code
from .shape import GRID, vit_picture


@dataclass(frozen=True, eq=False)
class Chat:
    """Conversations of one question and one answer each, in chat form, padded on the left.

    ids, labels: int64 [B, N]; labels hold the answers' tokens, which alone count. pixels, grid: of the pictures, as
        the VLM takes them. meant: of each, int64 [B, 4]. texts: for a person.
    """

    ids: Tensor
    labels: Tensor
    pixels: Tensor
    grid: Tensor
    meant: Tensor
    texts: Sequence[str]


@dataclass(frozen=True, eq=False)
class Drawings:
    """Sequences of the drawing path (docs/model.md, section 4; images are bidirectional there).

    parts: of each, in order: "clean" and "vit" stand for the source's tokens, a text for its ids.
    pictures: the sources, in order, with what they show: scenes int64 [S, …], cells int64 [S, tokens, …].
    targets, meant: of each sequence, int64 [B, …]. texts: for a person.
    """

    parts: Sequence[Sequence[str | list[int]]]
    pictures: Sequence[Image.Image]
    scenes: Tensor
    cells: Tensor
    targets: Tensor
    meant: Tensor
    texts: Sequence[str]


def chat_sample(rng: np.random.Generator) -> tuple[Scene, str, str, list[int]]:
    """A random (picture, question, answer, what is meant)."""
    roll = rng.random()
    if roll < 0.15:
        scene = random_scene(rng)
        return scene, DESCRIBE, caption(scene), meant(None, scene)
    if roll < 0.4:
        scene = random_scene(rng)
        return scene, *random_question(rng, scene), meant(None, scene)
    source, instruction, target = random_edit(rng)
    return source, instruction, caption(target), meant(source, target)


def drawing_sample(rng: np.random.Generator) -> tuple[tuple[str, ...], str, Scene | None, Scene]:
    """A random (parts before the text, text, source or None, target)."""
    if rng.random() < 0.25:
        prompt, target = random_prompt(rng)
        return (), prompt, None, target
    source, instruction, target = random_edit(rng)
    return ("vit",) if rng.random() < 0.15 else ("clean", "vit"), instruction, source, target


def pad_left(rows: list[list[int]], value: int) -> Tensor:
    """Rows of several lengths as one tensor."""
    width = max(map(len, rows))
    return torch.tensor([[value] * (width - len(row)) + row for row in rows])


def chat(und: Understanding, rng: np.random.Generator, count: int) -> Chat:
    """So many random conversations, on the CPU."""
    tokens, drawn = und.tokenizer, [chat_sample(rng) for _ in range(count)]
    rows, labels = [], []
    for _, question, answer, _ in drawn:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = tokens.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        text = text.replace("<|image_pad|>", "<|image_pad|>" * GRID * GRID)
        ask = tokens(text, add_special_tokens=False)["input_ids"]
        reply = tokens(answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
        rows.append(ask + reply)
        labels.append([IGNORE] * len(ask) + reply)
    seen = und.processor(images=[vit_picture(scene) for scene, *_ in drawn], do_resize=False, return_tensors="pt")
    return Chat(
        pad_left(rows, tokens.pad_token_id),
        pad_left(labels, IGNORE),
        seen["pixel_values"],
        seen["image_grid_thw"],
        torch.tensor([code for *_, code in drawn]),
        [f"{caption(scene)}: {question} {answer}" for scene, question, answer, _ in drawn],
    )


def drawings(und: Understanding, rng: np.random.Generator, count: int) -> Drawings:
    """So many random sequences, on the CPU; at least one has a source."""
    drawn = [drawing_sample(rng) for _ in range(count)]
    while all(source is None for *_, source, _ in drawn):
        drawn[0] = drawing_sample(rng)
    sources = [source for *_, source, _ in drawn if source is not None]
    return Drawings(
        [[*before, und.text_ids(text)] for before, text, _, _ in drawn],
        [vit_picture(scene) for scene in sources],
        torch.tensor([scene_code(scene) for scene in sources]),
        torch.tensor([cell_codes(scene) for scene in sources]),
        torch.tensor([scene_code(target) for *_, target in drawn]),
        torch.tensor([meant(source, target) for *_, source, target in drawn]),
        [text if source is None else f"{caption(source)}: {text}" for _, text, source, _ in drawn],
    )
