"""Token lists: what `CLIP.tokenize` gives and the text encoder reads.

{KEY: [[(token, weight), ...], ...]}, as of every text encoder in ComfyUI. A token is the id of a piece of text, or a
`Source`, which stands for a source picture, or an `Earlier`, which stands for the turns before. All that is to be
encoded is read from the lists alone, so it survives what nodes do with them: slice and copy them, join them with
others, build them anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Integral
from typing import Any

from PIL import Image
from torch import Tensor

from ...lightbagel_core.model.understanding import IM_END, IM_START, Understanding, VitImage
from .conditioning import KEY, Sources
from .foreign import INSTEAD
from .say import once

WEIGHT = re.compile(r"(?<!\\)\([^()]*:\s*[-+]?\d*\.?\d+\s*\)|(?<!\\)\(\([^()]*\)\)")
EMBEDDING = re.compile(r"(?<!\S)embedding:\S+")


class Pictures(tuple[Image.Image, ...]):
    """Source pictures as the VLM is to see them. Prompts that stand after the same ones share what its ViT makes of
    them, from the first that is encoded on, while the encoder's weights stay as they are.
    """

    vit: list[VitImage] | None = None
    weights: Hashable = None
    mark: object  # tells these pictures, seen with these weights, from others that look the same

    def __new__(cls, pictures: Iterable[Image.Image] = ()) -> Pictures:
        made = super().__new__(cls, pictures)
        made.mark = object()
        return made

    def seen(self, weights: Hashable, look: Callable[[Pictures], list[VitImage]]) -> list[VitImage]:
        """What the ViT makes of them with the encoder's weights of now."""
        if self.vit is None or self.weights != weights:
            self.vit, self.weights, self.mark = look(self), weights, object()
        return self.vit


@dataclass(frozen=True, eq=False)
class Source:
    """A source picture among tokens: the `index`-th of `pictures`.

    With `latents`, [1, C, h, w], it stands in the sequence as VAE and as ViT tokens, else as ViT tokens only.
    `only_ask`: another node gave it to ask about; to draw with it is refused.
    """

    pictures: Pictures
    index: int
    latents: Tensor | None = None
    only_ask: bool = False

    @property
    def picture(self) -> Image.Image:
        return self.pictures[self.index]

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Source) and self.pictures is other.pictures and self.index == other.index
        return same and self.latents is other.latents

    def __hash__(self) -> int:
        return hash((id(self.pictures), self.index))

    def __deepcopy__(self, memo: dict[int, Any]) -> Source:
        return self  # nothing of it changes, and copies would no longer share what the ViT makes of it

    def __repr__(self) -> str:
        return f"<source picture {self.index + 1} of {len(self.pictures)}>"


@dataclass(frozen=True, eq=False)
class Earlier:
    """Earlier turns among tokens, before those of a turn of its own: und states that the text encoder gave, and what
    stands beside them, whose `parts` are known.
    """

    states: Tensor
    sources: Sources

    def __deepcopy__(self, memo: dict[int, Any]) -> Earlier:
        return self  # nothing of it changes, and a copy of the states is none that the text encoder gave

    def __repr__(self) -> str:
        texts = sum(not isinstance(part, Source) for part in self.sources.parts or ())
        return f"<{texts} earlier turn{'s' * (texts > 1)}>"

    def keyed(self) -> Iterator[tuple[Source | Sequence[int], Hashable]]:
        """Its parts, each with the key of its last segment."""
        keys = iter(self.sources.keys)
        for part in self.sources.parts or ():
            for _ in range(isinstance(part, Source) and part.latents is not None):
                next(keys)
            yield part, next(keys)


class NoSuchTokens(ValueError, KeyError):
    """A node asks for the tokens of a text encoder that LightBagel does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


class Tokens(dict[str, list[list[tuple[Any, ...]]]]):
    """Batches of (token, weight) or (token, weight, word id) under `KEY`; a prompt is one batch."""

    def __missing__(self, name: str) -> Any:
        raise NoSuchTokens(
            f"this node writes prompts for a model with a text encoder named {name!r}, such as SDXL, SD3 or Flux; "
            f"LightBagel has one of its own: {INSTEAD}"
        )


def tokenize(und: Understanding, text: str, sources: Sequence[Source | Earlier] = (), word_ids: bool = False) -> Tokens:
    """The token lists of a text after earlier turns and source pictures: one batch.

    The text is taken as it stands, weights and all, as ComfyUI does for Qwen-Image; only `\\(` and `\\)`, by which
    prompts keep brackets from being weights, are brackets.

    Args:
        word_ids: whether to number the words: from 1 on, and 0 for what is not of a word.
    Raises:
        ValueError: words the model does not know.
    """
    weight, embedding = WEIGHT.search(text), EMBEDDING.search(text)
    plain = re.sub(r"\\([()])", r"\1", text)
    try:
        ids = und.words_to_ids(plain)
    except ValueError as error:
        if weight:
            raise ValueError(f"LightBagel has no prompt weights: write {weight[0]} without brackets; {error}") from None
        if embedding:
            raise ValueError(f"LightBagel has no embeddings: leave {embedding[0]} out; {error}") from None
        raise
    if weight:
        once(
            f"the prompt weight {weight[0]} does not act: the words are read as they stand, brackets and number "
            "included. Say in words what matters, or raise the guidance."
        )
    if embedding:
        once(f"{embedding[0]} is read as words: LightBagel has no embeddings of prompts")
    words: Iterable[int | None] = und.tokenizer(plain, add_special_tokens=False).word_ids() if word_ids else ids
    batch: list[tuple[Any, ...]] = [(source, 1.0, 0) for source in sources]
    batch.append((und.token_id(IM_START), 1.0, 0))
    batch += [(token, 1.0, 0 if word is None else word + 1) for token, word in zip(ids, words, strict=True)]
    batch.append((und.token_id(IM_END), 1.0, 0))
    return Tokens({KEY: [batch if word_ids else [entry[:2] for entry in batch]]})


def read(und: Understanding, tokens: Any) -> list[Source | Earlier | list[int]]:
    """What token lists say, in its order: earlier turns, source pictures, and the ids of the texts around them, the
    last a text.

    Batches are read one after the other; texts with nothing between are one text. Padding is left out.

    Raises:
        ValueError: tokens of another text encoder, or none that LightBagel can read.
    """
    if isinstance(tokens, dict):
        if KEY not in tokens or any(batches for name, batches in tokens.items() if name != KEY):
            names = ", ".join(repr(name) for name in tokens if name != KEY)
            raise ValueError(f"these tokens are of another model's text encoder ({names}): {INSTEAD}")
        tokens = tokens[KEY]
    around = {und.token_id(IM_START), und.token_id(IM_END), und.tokenizer.pad_token_id}
    other = set(und.tokenizer.get_added_vocab().values()) - around
    known = und.vlm.get_input_embeddings().num_embeddings
    parts: list[Source | Earlier | list[int]] = [[]]
    for token, weight, *_ in chain.from_iterable(tokens):
        if weight != 1.0:
            once("a node has given tokens weights, which do not act: LightBagel reads all words alike")
        if isinstance(token, Source | Earlier):
            parts += [token, []]
        elif not isinstance(token, Integral) or not 0 <= token < known or token in other:
            raise ValueError(
                f"a node has put {_named(token)} among LightBagel's tokens, which is no word of its text: embeddings "
                "and the tokens of other text encoders cannot be read. Leave that node out."
            )
        elif token not in around:
            parts[-1].append(int(token))
    return [part for part in parts[:-1] if part] + parts[-1:]


def _named(token: Any) -> str:
    return f"token {token}" if isinstance(token, Integral) else f"a {type(token).__name__}"
