"""The nano's world as a set of examples: prompts with a scene, edits, chains of two turns, edits of two pictures."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image

from ...world.scenes import SIZE, Scene, render
from ...world.stories import Story, random_story
from ..seeds import Stream, generator
from .example import Example, Shape, Turn, words


class WorldSet:
    """
    Args:
        seed: of the run. edits: the share of edits. chains: the share of two turns among these. pairs: the share
            of two pictures among these.
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
        pairs: float = 0.0,
        number: int = 0,
        first: int = 0,
        own: int | None = None,
        shared: int = 0,
    ) -> None:
        for name, share in {"edits": edits, "chains": chains, "pairs": pairs}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share in 0..1, not {share}")
        if chains + pairs > 1:
            raise ValueError(f"chains and pairs are shares of the edits, together 1 at most, not {chains + pairs}")
        self.seed, self.edits, self.chains, self.pairs, self.number = seed, edits, chains, pairs, number
        self.count = first or None
        self.own, self.shared = seed if own is None or first else own, shared
        self.story = lru_cache(maxsize=4096)(self._draw)

    @property
    def identity(self) -> str:
        shares = f"{self.edits} {self.chains} {self.pairs}"
        return f"world {self.seed} {self.own} {self.shared} {self.number} {shares} {self.count}"

    def _draw(self, index: int) -> Story:
        rng = generator(self.seed if index < self.shared else self.own, Stream.WORLD, self.number, index)
        return random_story(rng, self.edits, self.chains, self.pairs)

    def shape(self, index: int) -> Shape:
        story, size = self.story(index), (SIZE, SIZE)
        texts = tuple(words(turn.words) for turn in story.turns)
        return Shape((size,) * len(story.sources), (size,) * len(texts), texts)

    def __getitem__(self, index: int) -> Example:
        story = self.story(index)
        return Example(
            tuple(map(picture, story.sources)), tuple(Turn(turn.words, picture(turn.target)) for turn in story.turns)
        )


def picture(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene))
