"""What a step learns from, and which process takes what: a pure function of the stage's seed and the step.

Every process works out the whole batch from the shapes of its examples, before any is read. So all agree on it without
a word, the number of noised tokens is known everywhere, and a run on another number of processes has the same batches.

A batch of so many samples takes as many slots of the mix, step by step. A batch of so many tokens takes them in blocks
of `BLOCK` steps: the slots of a block are shared out so that its steps hold nearly equally many tokens, and none is
left over. With the rolling cache a step takes slots at random from what the cache holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from heapq import heapreplace
from itertools import count

from ...config import LightBagelConfig
from ...images import image_tokens
from ..seeds import Stream, generator, of_stage
from ..stages import Stage
from .example import Example, Examples, Shape
from .mix import Mix
from .samples import Plan, joined, plan, thoughts_joined
from .window import window

BLOCK = 16  # steps whose slots are shared out together, where a batch is measured in tokens
MEASURED = 1000  # slots whose mean says how many samples make so many tokens


@dataclass(frozen=True)
class Pick:
    """An example of a step's batch.

    number: its place in the batch. slot: in the mix. which, index: its set, and where in that it stands.
    joined: whether its turns are learned as one.
    tokens: of all its samples before anything is dropped, each shared one once. noised: of their targets.
    weight: 0 where it only fills a pass of a process that has nothing left.
    """

    number: int
    slot: int
    which: int
    index: int
    joined: bool
    tokens: int
    noised: int
    weight: float = 1.0


class Batches:
    """
    Args:
        sets: what is trained on, in the order of the stage's sets (see `sets.split`).
        stage: says the mix, the batch, the dropout and the seed. config: says how pictures are sized.
    """

    def __init__(self, sets: Sequence[Examples], stage: Stage, config: LightBagelConfig) -> None:
        self.sets, self.stage, self.config = tuple(sets), stage, config
        self.seed = of_stage(stage.seed, stage.name)
        self.mix = Mix([asked.weight for asked in stage.data.sets], [examples.count for examples in sets], self.seed)
        self.pick = lru_cache(maxsize=1 << 16)(self._pick)
        self.batch = lru_cache(maxsize=4)(self._batch)
        self._block = lru_cache(maxsize=2)(self._share_block)
        self._mean: float | None = None

    def _pick(self, slot: int) -> Pick:
        """The example of a slot, with its number of tokens."""
        which, index = self.mix[slot]
        shape = self.sets[which].shape(index)
        one = len(shape.targets) == 1 or self._joins(slot)
        if one:
            shape = Shape(shape.sources, shape.targets[-1:], (sum(shape.words),))
        tokens, noised = token_counts(shape, self.config)
        return Pick(slot, slot, which, index, one, tokens, noised)

    def _joins(self, slot: int) -> bool:
        turns = self.stage.data.turns
        return turns == "joined" or (turns == "mixed" and bool(generator(self.seed, Stream.TURNS, slot).random() < 0.5))

    def _batch(self, step: int) -> tuple[Pick, ...]:
        """All that a step learns from, over all processes."""
        batch = self.stage.batch
        if self.stage.cache.states == "rolling":
            picks = self._from_window(step)
        elif batch.samples:
            picks = [self.pick(slot) for slot in range(step * batch.samples, (step + 1) * batch.samples)]
        else:
            block, at = divmod(step, BLOCK)
            picks = self._block(block)[at]
        return tuple(replace(pick, number=number) for number, pick in enumerate(picks))

    @property
    def mean_tokens(self) -> float:
        """Of an example of the mix, measured on its first slots."""
        if self._mean is None:
            self._mean = sum(self.pick(slot).tokens for slot in range(MEASURED)) / MEASURED
        return self._mean

    def _share_block(self, block: int) -> list[list[Pick]]:
        """The picks of each step of a block."""
        size = max(BLOCK, round(BLOCK * self.stage.batch.tokens / self.mean_tokens))
        return spread([self.pick(slot) for slot in range(block * size, (block + 1) * size)], BLOCK)

    def _from_window(self, step: int) -> list[Pick]:
        slots = window(self.stage.cache, step)
        batch, total = self.stage.batch, 0.0
        found: list[Pick] = []
        for slot in _shuffled(slots, self.seed, step):
            pick = self.pick(slot)
            if found and (len(found) == batch.samples if batch.samples else total + pick.tokens / 2 > batch.tokens):
                break
            found.append(pick)
            total += pick.tokens
        return found

    def noised(self, step: int) -> int:
        """The noised tokens of a step, over all processes: what its loss is divided by."""
        return sum(pick.noised for pick in self.batch(step))

    def deal(self, step: int, world_size: int = 1, rank: int = 0) -> list[list[Pick]]:
        """The passes of one process: equally many on each, none empty, none of more than the device's tokens unless one
        example alone has more.
        """
        picks = self.batch(step)
        limit = self.stage.batch.device_tokens
        shares = spread(picks, world_size)
        passes = max(len(packed(share, limit)) for share in shares)
        mine = spread(shares[rank], passes)
        if any(len(one) > 1 and sum(pick.tokens for pick in one) > limit for one in mine):
            mine = packed(shares[rank], limit)
        filler = replace(min(picks, key=lambda pick: (pick.tokens, pick.number)), weight=0.0)
        return [one or [filler] for one in [*mine, *[[]] * (passes - len(mine))]]

    def example(self, pick: Pick) -> Example:
        """Raises ValueError, naming the file, where it cannot be read."""
        example = self.sets[pick.which][pick.index]
        if self.stage.data.thoughts == "joined":
            example = thoughts_joined(example)
        return joined(example) if pick.joined else example

    def plans(self, pick: Pick) -> list[Plan]:
        """The samples of a pick, with the segments that stay; they depend on its slot alone."""
        return plan(self.example(pick), self.stage.dropout, generator(self.seed, Stream.DROPOUT, pick.slot))

    def key(self, step: int, pick: Pick, turn: int) -> tuple[int, ...]:
        """What the time and the noise of a sample are drawn from."""
        return self.seed, int(Stream.NOISE), step, pick.number, turn


def token_counts(shape: Shape, config: LightBagelConfig) -> tuple[int, int]:
    """(tokens of all samples of an example with no segment dropped, noised tokens among them)."""
    targets = [image_tokens(size, config.vae_image) for size in shape.targets]
    read = [*shape.sources, *shape.targets[:-1]]  # what a turn drew is a source of the next
    sources = sum(image_tokens(size, rule) + 2 for size in read for rule in (config.vae_image, config.vit_image))
    return sum(targets) + sources + sum(words + 2 for words in shape.words) + 2 * len(targets), sum(targets)


def spread(picks: Sequence[Pick], bins: int) -> list[list[Pick]]:
    """Shares out picks so that the bins hold nearly equally many tokens; each bin in the order of the numbers."""
    found: list[list[Pick]] = [[] for _ in range(bins)]
    loads = [(0, at) for at in range(bins)]
    for pick in _largest_first(picks):
        load, at = loads[0]
        found[at].append(pick)
        heapreplace(loads, (load + pick.tokens, at))
    return [sorted(one, key=lambda pick: pick.number) for one in found]


def packed(picks: Sequence[Pick], limit: int) -> list[list[Pick]]:
    """As few bins as first-fit-decreasing finds, each of at most `limit` tokens or of one pick."""
    found: list[list[Pick]] = []
    room: list[int] = []
    for pick in _largest_first(picks):
        at = next((i for i, left in enumerate(room) if left >= pick.tokens), None)
        if at is None:
            found.append([])
            room.append(limit)
            at = len(room) - 1
        found[at].append(pick)
        room[at] -= pick.tokens
    return [sorted(one, key=lambda pick: pick.number) for one in found]


def _largest_first(picks: Sequence[Pick]) -> list[Pick]:
    return sorted(picks, key=lambda pick: (-pick.tokens, pick.number))


def _shuffled(slots: range, seed: int, step: int) -> Iterator[int]:
    """Slots in random order; all of them before any comes again."""
    for turn in count():
        for i in generator(seed, Stream.WINDOW, step, turn).permutation(len(slots)):
            yield slots[int(i)]
