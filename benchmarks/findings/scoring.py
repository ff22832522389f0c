"""What a run's model gets right: edits and prompts, the same ones and the same noise for every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from lightbagel_core.evaluation.benches.geneval_rule import judge_objects
from lightbagel_core.evaluation.suites.checks import Verdict, judge
from lightbagel_core.evaluation.suites.drawing import TAGS, found_in, random_metadata, written_out
from lightbagel_core.evaluation.suites.truth import picture, read_picture
from lightbagel_core.model.chat import answers
from lightbagel_core.model.forward import Content
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.branches import branches_of, thinking_branches
from lightbagel_core.world.edits import KINDS, Edit, random_edit

from .arms import Drawing

SEED, BATCH = 80, 20


def edits(model: LightBagel, how: Drawing, each: int) -> dict[str, dict[str, list[bool]]]:
    """Of so many edits of each kind, which come out right (`edits`), and of which what was named is `done` and all else
    is `kept`.
    """
    found: dict[str, dict[str, list[bool]]] = {"edits": {}, "done": {}, "kept": {}}
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng([SEED, 2**31, number])
        asked = [random_edit(rng, kind, crowded=False) for _ in range(each)]
        verdicts = [verdict for some, seed in _batches(asked) for verdict in edited(model, some, how, seed)]
        found["edits"][kind] = [verdict.right for verdict in verdicts]
        found["done"][kind] = [verdict.done for verdict in verdicts]
        found["kept"][kind] = [verdict.kept for verdict in verdicts]
    return found


def _batches(items: Sequence[Edit]) -> Iterator[tuple[Sequence[Edit], int]]:
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH], SEED + first


def edited(model: LightBagel, some: Sequence[Edit], how: Drawing, seed: int) -> list[Verdict]:
    """What becomes of a batch of edits."""
    pictures = [picture(edit.source) for edit in some]
    texts = [[edit.words] for edit in some]
    if how.thoughts != "none":
        model.need("understanding")  # asked before anything is encoded, which would load it
        thoughts = answers(model.und, [([source], words) for source, (words,) in zip(pictures, texts, strict=True)])
        texts = [[words, thought] for (words,), thought in zip(texts, thoughts, strict=True)]
    if how.thoughts == "joined":
        texts = [[f"{words.rstrip(' .')}. {thought}"] for words, thought in texts]
    settings = model.settings(pictures[0])
    branches: dict[str, list[list[Content]]] = {}
    for source, said in zip(pictures, texts, strict=True):
        kinds = {"vae": model.clean, "vit": model.vit}
        seen = [encode(source) for kind, encode in kinds.items() if kind in how.source_tokens]
        words = [model.text(text) for text in said]
        each = thinking_branches(seen, words) | {"negative": [*seen, model.text("")]}  # one negative for all arms
        for name, contents in each.items():
            branches.setdefault(name, []).append(contents)
    noise = model.noise(len(some), settings.width, settings.height, seed)
    results = model.draw(branches, noise, settings.guidance, steps=settings.steps, progress=False)
    return [judge(e.changes, e.source, read_picture(result)) for e, result in zip(some, results, strict=True)]


def prompts(model: LightBagel, each: int) -> dict[str, list[bool]]:
    """Which of so many long prompts of each of GenEval's tasks come out right."""
    found: dict[str, list[bool]] = {}
    for number, tag in enumerate(TAGS):
        rng = np.random.default_rng([SEED, 2**31, len(KINDS) + number])
        rows = [random_metadata(rng, tag) for _ in range(each)]
        drawn: list[Image.Image] = []
        for first in range(0, each, BATCH):
            words = [written_out(rng, row) for row in rows[first : first + BATCH]]
            drawn += _drawn(model, words, SEED + first)
        found[tag] = [_shows(row, image) for row, image in zip(rows, drawn, strict=True)]
    return found


def _drawn(model: LightBagel, words: Sequence[str], seed: int) -> list[Image.Image]:
    settings = model.settings(None)
    branches: dict[str, list[list[Content]]] = {}
    for text in words:
        for name, contents in branches_of([], model.text(text), model.text("")).items():
            branches.setdefault(name, []).append(contents)
    noise = model.noise(len(words), settings.width, settings.height, seed)
    return model.draw(branches, noise, settings.guidance, steps=settings.steps, progress=False)


def _shows(row: dict[str, object], image: Image.Image) -> bool:
    seen = read_picture(image)
    return seen is not None and judge_objects(found_in(seen), row, ranked=False)[0]
