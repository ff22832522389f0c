"""Tokens of samples, against layouts that are counted one by one."""

from __future__ import annotations

import numpy as np
import pytest

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.model.sequence import ImageSegment, TextSegment, lay_out
from lightbagel_core.training.data.batches import token_counts
from lightbagel_core.training.data.example import Shape
from lightbagel_core.training.planning.tokens import Tokens, chained, example
from lightbagel_core.training.stages import Dropout

CONFIG = read_config(PUBLISHED)
SIDES = {4: (2, 2), 6: (2, 3), 9: (3, 3), 12: (3, 4), 20: (4, 5)}


def laid_out(parts, target: int):
    """The layout of a sample, and which of its tokens are noised."""
    segments = [TextSegment(n + 2) if kind == "text" else ImageSegment(kind, *SIDES[n]) for kind, n in parts]
    layout = lay_out([*segments, ImageSegment("noised", *SIDES[target])])
    return layout, ~layout.und & (layout.segment == len(segments))


@pytest.mark.parametrize(
    ("parts", "target"),
    [
        ([("text", 7)], 6),
        ([("clean", 6), ("vit", 4), ("text", 3)], 6),
        ([("clean", 6), ("vit", 4), ("clean", 12), ("vit", 9), ("text", 0)], 20),
        ([("vit", 4)], 6),
        ([], 6),
    ],
)
def test_a_sample_is_counted_as_it_is_laid_out(parts, target):
    """Every figure, by looking at the layout's tokens and at who sees whom."""
    layout, noised = laid_out(parts, target)
    found = chained([(parts, target)])
    clean = ~layout.und & ~noised
    assert (found.noised, found.clean, found.und) == (noised.sum(), clean.sum(), layout.und.sum())
    assert found.vit == sum(n for kind, n in parts if kind == "vit")
    assert found.pairs == layout.visible[~layout.und].sum()
    assert found.noised_pairs == layout.visible[noised].sum()
    pictures = [s for s in range(len(parts) + 1) if ((layout.segment == s) & ~layout.und).any()]
    first = [int(((layout.segment == s) & ~layout.und).nonzero()[0, 0]) for s in pictures]
    assert found.keys == layout.visible[first].sum()
    assert found.squares == sum(int(((layout.segment == s) & ~layout.und).sum()) ** 2 for s in pictures)
    assert found.und_squares == int(layout.und.sum()) ** 2


def test_what_the_turns_of_a_chain_share_is_counted_once():
    """Of the first turn's sample only the target, with its markers, is no part of the second's."""
    first, more = [("clean", 6), ("vit", 4), ("text", 3)], [("clean", 12), ("vit", 9), ("text", 5)]
    (one, drawn), (two, last) = laid_out(first, 12), laid_out([*first, *more], 20)
    found = chained([(first, 12), (more, 20)])
    assert (found.noised, found.clean, found.vit) == (12 + 20, 6 + 12, 4 + 9)
    assert found.und == two.und.sum() + 2
    assert found.pairs == two.visible[~two.und].sum() + one.visible[drawn].sum()
    assert found.noised_pairs == two.visible[last].sum() + one.visible[drawn].sum()
    assert found.squares == 6**2 + 2 * 12**2 + 20**2


EDIT = Shape(((1024, 1024),), ((1024, 1024),), (10,))
CHAIN = Shape(((1024, 1024),), ((512, 1024), (1024, 1024)), (5, 7))


def test_an_edit_has_the_tokens_of_its_pictures():
    """1024 tokens a picture in the DiT, 361 in the VLM, two markers each; text and its two."""
    found = example(EDIT, CONFIG, False, None, np.random.default_rng(0))
    assert (found.noised, found.clean, found.vit) == (1024, 1024, 361)
    assert found.und == 2 + 363 + 12 + 2


def test_a_chain_is_one_sample_or_one_a_turn():
    joined, drawn = (example(CHAIN, CONFIG, chain, None, np.random.default_rng(0)) for chain in (False, True))
    assert joined.noised == 1024
    assert joined.und == 2 + 363 + 12 + 2 + 2
    assert (drawn.noised, drawn.clean) == (512 + 1024, 1024 + 512)


@pytest.mark.parametrize("shape", [EDIT, CHAIN, Shape((), ((512, 1024),), (9,))])
def test_the_dry_run_counts_what_batches_are_filled_by(shape):
    found = example(shape, CONFIG, True, None, np.random.default_rng(0))
    assert (found.all, found.noised) == token_counts(shape, CONFIG)


def test_segments_are_dropped_as_often_as_said():
    rng = np.random.default_rng(1)
    dropout = Dropout(text=0.2, clean=0.3, vit=0.6, empty=0.5)
    mean = Tokens()
    for _ in range(2000):
        mean += example(EDIT, CONFIG, False, dropout, rng) * (1 / 2000)
    assert mean.noised == pytest.approx(1024)
    assert mean.clean / 1024 == pytest.approx(0.7, abs=0.03)
    assert mean.vit / 361 == pytest.approx(0.4, abs=0.03)
    assert mean.und == pytest.approx(2 * 0.7 + 363 * 0.4 + 0.8 * 12 + 0.1 * 2 + 2, rel=0.06)
