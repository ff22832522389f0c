"""What the VLM is taught in a step: conversations about pictures, and the sequences of the drawing path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...model.understanding import Understanding
from ...world.arrangements import random_scene
from ...world.edits import Change
from ...world.questions import random_question
from ...world.scenes import Scene, pick
from ...world.sentences import DESCRIBE, SHOW_AND_TELL, caption
from ...world.stories import ORDER, random_story
from .codes import IGNORE, cell_codes, change_code, scene_code
from .pointing import pointed
from .shape import GRID, vit_picture


@dataclass(frozen=True, eq=False)
class Chat:
    """Conversations of a few questions and answers each, in chat form, padded on the left.

    ids, labels: int64 [B, N]; labels hold the answers' tokens, which alone count. pixels, grid: of the pictures, as
        the VLM takes them. wanted: of each its `change_code`, int64 [B, …]. pointed: where each token's thing stands
        (see `pointing.pointed`), int64 [B, N]. texts: for a person.
    """

    ids: Tensor
    labels: Tensor
    pixels: Tensor
    grid: Tensor
    wanted: Tensor
    pointed: Tensor
    texts: Sequence[str]


@dataclass(frozen=True, eq=False)
class Drawings:
    """Sequences of the drawing path (docs/model.md, section 4; images are bidirectional there).

    parts: of each, in order: "clean" and "vit" stand for a picture's tokens, a text for its ids.
    pictures: all that the ViT sees, in order, with what they show: scenes int64 [S, …], cells int64 [S, tokens, …].
    targets, wanted: of each sequence its `scene_code` and `change_code`, int64 [B, …].
    pointed: of each sequence's last text where its tokens' things stand. texts: for a person.
    """

    parts: Sequence[Sequence[str | list[int]]]
    pictures: Sequence[Image.Image]
    scenes: Tensor
    cells: Tensor
    targets: Tensor
    wanted: Tensor
    pointed: Sequence[Sequence[int]]
    texts: Sequence[str]


@dataclass(frozen=True)
class Exchange:
    """A question with its answer. scenes: the pictures that are shown with it; it is about the last that was shown.

    changes: what it asks for, where it is an instruction.
    """

    scenes: tuple[Scene, ...]
    question: str
    answer: str
    changes: tuple[Change, ...] = ()


Told = tuple[tuple[Exchange, ...], list[int]]  # what is said, what is wanted


def chat_sample(rng: np.random.Generator) -> Told:
    """A random conversation: questions about pictures, or an instruction."""
    if rng.random() < 0.55:
        exchanges = questions_in_turn(rng)
        return exchanges, change_code(None, exchanges[0].scenes[0])
    story = random_story(rng, edits=1.0, pairs=0.12, others=0.15)
    (turn,) = story.turns
    wanted = change_code(story.sources[story.edited], turn.target)
    return (Exchange(story.sources, turn.words, caption(turn.target), turn.changes),), wanted


def questions_in_turn(rng: np.random.Generator) -> tuple[Exchange, ...]:
    """One question to three; most later ones are about the same picture, some about another that is shown then."""
    exchanges: list[Exchange] = []
    for number in range(1 + int(rng.choice(3, p=(0.65, 0.25, 0.1)))):
        shown: tuple[Scene, ...] = ()
        if not number or rng.random() < 0.25:
            scene = random_scene(rng)
            shown = (random_scene(rng), scene) if rng.random() < 0.1 else (scene,)
        describe = rng.random() < 0.36
        said = (pick(rng, (DESCRIBE, DESCRIBE, *SHOW_AND_TELL)), caption(scene)) if describe else None
        exchanges.append(Exchange(shown, *(said or random_question(rng, scene))))
    return tuple(exchanges)


@dataclass(frozen=True)
class Asked:
    """A sequence of the drawing path: its parts in order, of which a scene is a picture that the ViT sees, None the
    markers of clean tokens; the scene that the last instruction is about; the target; what changes on the way there.
    """

    parts: tuple[Scene | str | None, ...]
    source: Scene | None
    target: Scene
    changes: tuple[Change, ...] = ()

    @property
    def text(self) -> str:
        """For a person."""
        said = [caption(part) if isinstance(part, Scene) else part for part in self.parts if part is not None]
        return ": ".join(said)


def drawing_sample(rng: np.random.Generator) -> Asked:
    """A random sequence of the drawing path."""
    story = random_story(rng, edits=0.75, chains=0.34, pairs=0.1, others=0.12)
    parts: list[Scene | str | None] = []
    seen: tuple[Scene, ...] = story.sources
    for number, turn in enumerate(story.turns):
        if number:
            seen = (story.turns[number - 1].target,)
        for scene in seen:
            parts += [scene] if rng.random() < 0.15 else [None, scene]
        parts.append(turn.words)
    edited = seen[story.edited if len(story.turns) == 1 else 0] if seen else None
    return Asked(tuple(parts), edited, turn.target, turn.changes)


def pad_left(rows: list[list[int]], value: int) -> Tensor:
    """Rows of several lengths as one tensor."""
    width = max(map(len, rows))
    return torch.tensor([[value] * (width - len(row)) + row for row in rows])


def chat(und: Understanding, rng: np.random.Generator, count: int) -> Chat:
    """So many random conversations, on the CPU."""
    drawn = [chat_sample(rng) for _ in range(count)]
    rows = [_row(und, exchanges) for exchanges, _ in drawn]
    pictures = [vit_picture(s) for exchanges, _ in drawn for exchange in exchanges for s in exchange.scenes]
    seen = und.processor(images=pictures, do_resize=False, return_tensors="pt")
    return Chat(
        pad_left([ids for ids, _, _ in rows], und.tokenizer.pad_token_id),
        pad_left([labels for _, labels, _ in rows], IGNORE),
        seen["pixel_values"],
        seen["image_grid_thw"],
        torch.tensor([code for _, code in drawn]),
        pad_left([points for _, _, points in rows], IGNORE),
        [
            "; ".join(f"{', '.join(map(caption, e.scenes))}: {e.question} {e.answer}" for e in exchanges)
            for exchanges, _ in drawn
        ],
    )


def _row(und: Understanding, exchanges: Sequence[Exchange]) -> tuple[list[int], list[int], list[int]]:
    """(A conversation's ids; its labels; where the things stand that its questions' tokens name)."""
    tokens = und.tokenizer
    messages: list[dict[str, object]] = []
    ids: list[int] = []
    labels: list[int] = []
    points: list[int] = []
    scenes: tuple[Scene, ...] = ()
    so_far = ""
    for exchange in exchanges:
        scenes = exchange.scenes or scenes
        content = [{"type": "image"} for _ in exchange.scenes] + [{"type": "text", "text": exchange.question}]
        messages.append({"role": "user", "content": content})
        text = tokens.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        messages.append({"role": "assistant", "content": [{"type": "text", "text": exchange.answer}]})
        asked = text.removeprefix(so_far).replace("<|image_pad|>", "<|image_pad|>" * GRID * GRID)
        so_far = text + exchange.answer + "<|im_end|>"
        ask, reply = tokens([asked, exchange.answer + "<|im_end|>"], add_special_tokens=False)["input_ids"]
        ids += ask + reply
        labels += [IGNORE] * len(ask) + reply
        named = (
            [IGNORE] * len(ask)
            if len(scenes) > 1
            else pointed(tokens.convert_ids_to_tokens(ask), scenes[0], exchange.changes)
        )
        points += named + [IGNORE] * len(reply)
    return ids, labels, points


def drawings(und: Understanding, rng: np.random.Generator, count: int) -> Drawings:
    """So many random sequences, on the CPU; at least one has a picture."""
    drawn = [drawing_sample(rng) for _ in range(count)]
    while not any(isinstance(part, Scene) for asked in drawn for part in asked.parts):
        drawn[0] = drawing_sample(rng)
    seen = [part for asked in drawn for part in asked.parts if isinstance(part, Scene)]

    def named(part: Scene | str | None) -> str | list[int]:
        if part is None:
            return "clean"
        return "vit" if isinstance(part, Scene) else und.text_ids(part)

    return Drawings(
        [[named(part) for part in asked.parts] for asked in drawn],
        [vit_picture(scene) for scene in seen],
        torch.tensor([scene_code(scene) for scene in seen]),
        torch.tensor([cell_codes(scene) for scene in seen]),
        torch.tensor([scene_code(asked.target) for asked in drawn]),
        torch.tensor([change_code(asked.source, asked.target) for asked in drawn]),
        [_points(und, asked) for asked in drawn],
        [asked.text for asked in drawn],
    )


def _points(und: Understanding, asked: Asked) -> list[int]:
    """Where the things stand that the last text's tokens name; with two pictures no name is looked for."""
    words = asked.parts[-1]
    assert isinstance(words, str)
    tokens = und.tokenizer.convert_ids_to_tokens(und.text_ids(words))
    single = asked.source is not None and not any(word in tokens for word in ORDER)
    return pointed(tokens, asked.source, asked.changes) if single and asked.source else [IGNORE] * len(tokens)
