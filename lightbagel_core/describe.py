"""Pictures to words: the VLM alone, as its makers ship it. Imports no diffusers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image

from . import images
from .config import DESCRIBE
from .files.checkpoint import build_understanding
from .files.formats import Opened
from .files.precision import Precision
from .memory.offload import Offload, Residency
from .model import chat
from .model.chat import Talk, Turn
from .model.understanding import Understanding


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
        pictures = [image] if isinstance(image, Image.Image) else list(image)
        return self._answers([pictures], question, max_new_tokens)[0]

    def describe_each(
        self, pictures: Sequence[Image.Image], question: str = DESCRIBE, max_new_tokens: int = 128
    ) -> list[str]:
        """Answers a question about each of several pictures, all in one batch; arguments as in `describe`."""
        return self._answers([[picture] for picture in pictures], question, max_new_tokens)

    def _answers(self, sets: Sequence[Sequence[Image.Image]], question: str, max_new_tokens: int) -> list[str]:
        """The answer to one question about each of several sets of pictures."""
        if not sets or not all(sets):
            raise ValueError("describe needs at least one image")
        if not question.strip():
            raise ValueError("describe needs a question; leave it out for a description")
        turns = [([images.to_rgb(picture) for picture in pictures], question) for pictures in sets]
        return self.answers(turns, max_new_tokens)

    def answers(self, turns: Sequence[Turn | Talk], max_new_tokens: int = 128) -> list[str]:
        """Answers the last message of each of several conversations, all in one batch.

        Raises:
            ValueError: an unknown word (nano).
        """
        self.need()
        return chat.answers(self.und, turns, max_new_tokens)
