"""Pictures to words: the VLM alone, as its makers ship it. Imports no diffusers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from PIL import Image

from . import images
from .config import DESCRIBE
from .files.checkpoint import build_understanding
from .files.formats import Opened
from .files.precision import Precision
from .memory.offload import Offload, Residency
from .model import chat
from .model.chat import Answer, Talk, Turn
from .model.understanding import Understanding

OnAnswer = Callable[[int, str], bool | None]  # of a question's number and all the words of its answer so far


class Describer:
    """Answers questions about pictures."""

    def __init__(self, und: Understanding, need: Callable[[], None]) -> None:
        """`need` has the weights of `und` ready."""
        self.und, self.need = und, need

    @classmethod
    def of(
        cls, opened: Opened, device: torch.device, dtype: torch.dtype | None = None, offload: Offload | None = None
    ) -> Describer:
        """The describer of a model of whose files at least the understanding component was opened; see
        `LightBagel.from_pretrained`.
        """
        und = build_understanding(opened, device)
        residency = Residency(opened, {"understanding": und.vlm}, Precision.of(dtype, device), device, offload)
        return cls(und, lambda: residency.need("understanding"))

    def describe(
        self, image: Image.Image | Sequence[Image.Image], question: str = DESCRIBE, max_new_tokens: int = 128
    ) -> str:
        """Answers a question about one or several pictures.

        Raises:
            ValueError: no picture, an empty question, an unknown word (nano).
        """
        return self.describe_in_turn(image, [question], max_new_tokens)[0].text

    def describe_each(
        self, pictures: Sequence[Image.Image], question: str = DESCRIBE, max_new_tokens: int = 128
    ) -> list[str]:
        """Answers a question about each of several pictures, all in one batch; arguments as in `describe`."""
        each = self.each_in_turn([[picture] for picture in pictures], [question], max_new_tokens)
        return [answer.text for (answer,) in each]

    def describe_in_turn(
        self,
        image: Image.Image | Sequence[Image.Image],
        questions: Sequence[str],
        max_new_tokens: int = 128,
        on_text: OnAnswer | None = None,
    ) -> list[Answer]:
        """Answers several questions about one or several pictures as one conversation, in which earlier questions and
        their answers stand before the next; the ViT runs once.

        Args:
            max_new_tokens: of each answer, which says whether it was cut by that.
            on_text: told (number of the question from 0, all words of its answer so far) as they are made; returning
                False ends that answer.

        Raises:
            ValueError: as `describe`; no question.
        """
        pictures = [image] if isinstance(image, Image.Image) else list(image)
        return self.each_in_turn([pictures], questions, max_new_tokens, on_text)[0]

    def each_in_turn(
        self,
        sets: Sequence[Sequence[Image.Image]],
        questions: Sequence[str],
        max_new_tokens: int = 128,
        on_text: OnAnswer | None = None,
    ) -> list[list[Answer]]:
        """`describe_in_turn` for each of several sets of pictures, a conversation of its own, all in one batch; without
        `on_text` if there are several.
        """
        if not sets or not all(sets):
            raise ValueError("describe needs at least one image")
        if not questions or not all(question.strip() for question in questions):
            raise ValueError("describe needs a question; leave it out for a description")
        if max_new_tokens < 1:
            raise ValueError(f"an answer has at least 1 token, not {max_new_tokens}")
        messages: list[list[tuple[str, list[Image.Image | str]]]] = [
            [("user", [*map(images.to_rgb, pictures), questions[0]])] for pictures in sets
        ]
        for question in questions:  # all of them, before the first is answered
            chat.check(self.und, Talk([("user", [question])]))
        self.need()
        looked = chat.Looked()
        found: list[list[Answer]] = [[] for _ in sets]
        for number, question in enumerate(questions):
            if number:
                for talk, answers in zip(messages, found, strict=True):
                    before = chat.without_markers(self.und, answers[-1].text)
                    talk += [("assistant", [before]), ("user", [question])]
            told = None if on_text is None else partial(on_text, number)
            talks = [Talk(talk) for talk in messages]
            ids = chat.answer_ids(self.und, talks, told, looked, max_new_tokens=max_new_tokens, do_sample=False)
            for answers, row in zip(found, ids, strict=True):
                answers.append(chat.in_words(self.und, row, max_new_tokens))
        return found

    def answers(self, turns: Sequence[Turn | Talk], max_new_tokens: int = 128) -> list[str]:
        """Answers the last message of each of several conversations, all in one batch.

        Raises:
            ValueError: an unknown word (nano).
        """
        self.need()
        return chat.answers(self.und, turns, max_new_tokens)
