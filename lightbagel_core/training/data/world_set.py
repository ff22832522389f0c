"""The nano's world as a set of examples: prompts with a scene, edits, chains of two turns, edits of two pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from PIL import Image

from ...world.scenes import SIZE, Scene, render
from ...world.sentences import caption
from ...world.stories import Story, random_story
from ..seeds import Stream, generator
from .example import Example, Shape, Turn, words


class WorldSet:
    """
    Args:
        seed: of the run. edits: the share of edits. chains: the share of two turns among these. pairs: the share
            of two pictures among these. others: the share of "the other one", in one turn, among these.
        thoughts: the share of last turns with one, the caption of what is wanted.
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
        others: float = 0.0,
        thoughts: float = 0.0,
        number: int = 0,
        first: int = 0,
        own: int | None = None,
        shared: int = 0,
    ) -> None:
        shares = {"edits": edits, "chains": chains, "pairs": pairs, "others": others, "thoughts": thoughts}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share in 0..1, not {share}")
        if (together := chains + pairs + others) > 1:
            raise ValueError(f"chains, pairs and others are shares of the edits, together 1 at most, not {together}")
        self.seed, self.number = seed, number
        self.edits, self.chains, self.pairs, self.others, self.thoughts = shares.values()
        self.count = first or None
        self.own, self.shared = seed if own is None or first else own, shared
        self.told = lru_cache(maxsize=4096)(self._draw)

    @property
    def identity(self) -> str:
        shares = f"{self.edits} {self.chains} {self.pairs} {self.others} {self.thoughts}"
        return f"world {self.seed} {self.own} {self.shared} {self.number} {shares} {self.count}"

    def _draw(self, index: int) -> tuple[Story, str]:
        """The story of an example, and the thought before its last picture, if any."""
        rng = generator(self.seed if index < self.shared else self.own, Stream.WORLD, self.number, index)
        story = random_story(rng, self.edits, self.chains, self.pairs, self.others)
        thinks = bool(story.sources) and rng.random() < self.thoughts
        return story, caption(story.turns[-1].target) if thinks else ""

    def shape(self, index: int) -> Shape:
        (story, thought), size = self.told(index), (SIZE, SIZE)
        *texts, last = (words(turn.words) for turn in story.turns)
        texts.append(last + words(thought))
        return Shape((size,) * len(story.sources), (size,) * len(texts), tuple(texts))

    def __getitem__(self, index: int) -> Example:
        story, thought = self.told(index)
        *turns, last = (Turn(turn.words, picture(turn.target)) for turn in story.turns)
        return Example(tuple(map(picture, story.sources)), (*turns, replace(last, thought=thought)))


def picture(scene: Scene) -> Image.Image:
    return Image.fromarray(render(scene))
