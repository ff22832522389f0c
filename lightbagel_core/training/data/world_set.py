"""The nano's world as a set of examples: prompts with a scene, edits, and chains of two edits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from ...world.scenes import SIZE, Scene, pick, render
from ...world.sentences import edit_of, edits_of, random_edit, random_prompt
from ..seeds import Stream, generator
from .example import Example, Shape, Turn, words


@dataclass(frozen=True)
class Story:
    """An example in words: the scene to be edited, None for text to image, and each turn's text and scene."""

    source: Scene | None
    turns: tuple[tuple[str, Scene], ...]


class WorldSet:
    """
    Args:
        seed: of the run. edits: the share of edits. chains: the share of two turns among these.
        number: tells sets of one run apart, so that each has examples of its own.
        first: so many examples are the whole set; 0: it has no end.
        own: the stage's seed, from which a set without end is drawn, so that a later stage sees other examples.
            Default: the run's. shared: so many of the first examples are the same in every stage.
    """

    def __init__(
        self,
        seed: int,
        edits: float = 0.6,
        chains: float = 0.0,
        number: int = 0,
        first: int = 0,
        own: int | None = None,
        shared: int = 0,
    ) -> None:
        for name, share in {"edits": edits, "chains": chains}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share in 0..1, not {share}")
        self.seed, self.edits, self.chains, self.number = seed, edits, chains, number
        self.count = first or None
        self.own, self.shared = seed if own is None or first else own, shared
        self.story = lru_cache(maxsize=4096)(self._draw)

    @property
    def identity(self) -> str:
        return f"world {self.seed} {self.own} {self.shared} {self.number} {self.edits} {self.chains} {self.count}"

    def _draw(self, index: int) -> Story:
        rng = generator(self.seed if index < self.shared else self.own, Stream.WORLD, self.number, index)
        if rng.random() >= self.edits:
            prompt, scene = random_prompt(rng)
            return Story(None, ((prompt, scene),))
        chain = rng.random() < self.chains
        source, words, scene = random_edit(rng)
        turns = [(words, scene)]
        if chain:
            turns.append(edit_of(rng, scene, pick(rng, edits_of(scene))))
        return Story(source, tuple(turns))

    def shape(self, index: int) -> Shape:
        story, size = self.story(index), (SIZE, SIZE)
        texts = tuple(words(text) for text, _ in story.turns)
        return Shape(() if story.source is None else (size,), (size,) * len(texts), texts)

    def __getitem__(self, index: int) -> Example:
        story = self.story(index)
        sources = () if story.source is None else (picture(story.source),)
        return Example(sources, tuple(Turn(text, picture(scene)) for text, scene in story.turns))


def picture(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene))
