"""What samples begin with in common passes through the model once, at the positions it has in each of them."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from contextlib import contextmanager

import oracle
import pytest
import torch
from scenes import noise_picture

from lightbagel_core.model import packing
from lightbagel_core.model.sequence import ImageSegment, TextSegment, lay_out

SIZE, GRID = (96, 64), (2, 3)

pytestmark = pytest.mark.usefixtures("threads")


@contextmanager
def watched(model):
    """Positions of the tokens that passed through the VLM, and how many source images through the DiT's first block."""
    seen, images = Counter(), []
    language, block = model.und.vlm.model.language_model, model.gen.blocks[0]

    def positions(module, args, kwargs):
        at = kwargs.get("position_ids", args[1] if len(args) > 1 else None)
        seen.update(map(tuple, at[:, 0].T.tolist()))

    hooks = [
        language.rotary_emb.register_forward_pre_hook(positions, with_kwargs=True),
        block.register_forward_pre_hook(lambda module, args, kwargs: images.append(len(args[0])), with_kwargs=True),
    ]
    yield seen, images
    for hook in hooks:
        hook.remove()


def token_positions(parts: list) -> list[tuple[int, tuple[int, int, int]]]:
    """(segment, position) of a sample's und tokens, by the oracle."""
    target = oracle.Noised(torch.zeros(48, 2 * GRID[0], 2 * GRID[1]), 0.0)
    return [(t.segment, t.position) for t in oracle.list_tokens([*parts, target], 2) if t.und]


@pytest.fixture(scope="module")
def parts(tiny):
    a, b = noise_picture(1), noise_picture(2, 128, 64)
    return {
        "a": [tiny.clean(a), tiny.vit(a)],
        "b": [tiny.clean(b), tiny.vit(b)],
        "blue": [tiny.text("make the circle blue")],
        "nothing": [tiny.text("")],
    }


def test_a_sample_alone_passes_whole(tiny, parts):
    sample = [*parts["a"], *parts["blue"]]
    with watched(tiny) as (seen, images):
        tiny.encode([sample], *SIZE)
    assert seen == Counter(at for _, at in token_positions(sample))
    assert images == [1]


def test_a_common_beginning_passes_once(tiny, parts):
    full, negative, no_image = ([*parts["a"], *parts["blue"]], [*parts["a"], *parts["nothing"]], parts["blue"])
    with watched(tiny) as (seen, images):
        tiny.encode([full, negative, no_image], *SIZE)
    expected = Counter(at for _, at in token_positions(full))
    expected.update(at for segment, at in token_positions(negative) if segment >= 2)  # the pictures stand there already
    expected.update(at for _, at in token_positions(no_image))  # at its start the text has other positions
    assert seen == expected
    assert images == [1]


def test_the_same_picture_after_something_else_is_computed_anew(tiny, parts):
    """It attends to more, so neither its keys nor its positions are those it has alone."""
    one, two = [*parts["b"], *parts["blue"]], [*parts["a"], *parts["b"], *parts["blue"]]
    with watched(tiny) as (seen, images):
        tiny.encode([one, two], *SIZE)
    assert seen == Counter(at for sample in (one, two) for _, at in token_positions(sample))
    assert sum(images) == 3


def test_equal_samples_pass_once_and_each_has_its_row(tiny, parts):
    sample = [*parts["a"], *parts["blue"]]
    x = torch.randn(1, 48, 4, 6, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1).contiguous()
    with watched(tiny) as (seen, images):
        context = tiny.encode([sample] * 3, *SIZE)
    assert seen == Counter(at for _, at in token_positions(sample))
    assert images == [1]
    alone = tiny.velocity(x[:1], 0.7, tiny.encode([sample], *SIZE))
    for row in tiny.velocity(x, 0.7, context).split(1):
        assert oracle.relative(row, alone) < 1e-5


def test_layouts_that_samples_share_are_read_once(monkeypatch):
    layout = lay_out([ImageSegment("clean", 1, 2), TextSegment(2), ImageSegment("noised", 1, 1)])
    split, calls = packing._split, []
    monkeypatch.setattr(packing, "_split", lambda *given: calls.append(given) or split(*given))
    contents = [["picture", "one", None], ["picture", "two", None], ["other", "one", None]]
    for _ in range(2):
        tokens = packing.pack([layout] * 3, contents)
        assert tokens.positions.tolist()[0] == [0, 3, 4, 5, 6, 8, 4, 5, 6, 8, 0, 3, 4, 5, 6, 8]
        assert [image.positions.tolist() for image in tokens.images] == [[[1, 1], [1, 1], [1, 2]]] * 2
        assert [image.attended.tolist() for image in tokens.images] == [[0, 1, 6, 7]] * 2
        assert [image.places for image in tokens.images] == [[(0, 6), (1, 6)], [(2, 6)]]
        assert [x.tolist() for x in tokens.noised_positions] == [[[7], [7], [7]]] * 3
    assert len(calls) == 2  # und tokens and gen tokens
    gone = weakref.ref(layout)
    del layout, tokens
    gc.collect()
    assert gone() is None
