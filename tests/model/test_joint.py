"""All pictures of a batch side by side: the oracle's velocities, and each layer called once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import oracle
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from scenes import noise_picture
from tiny import make_tiny
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from lightbagel_core.model import joint as module
from lightbagel_core.model.attention import SDPA, Attention
from lightbagel_core.model.forward import Content, hashable, segment_of, und_states
from lightbagel_core.model.generation import PackedRotary
from lightbagel_core.model.joint import groups, velocities
from lightbagel_core.model.packing import Pack, pack
from lightbagel_core.model.sequence import ImageSegment, lay_out

NEAR = 1e-5  # of the largest value, as in test_forward.py
Sizes = Sequence[tuple[int, int]]  # of targets, in latents


def packed(samples: Sequence[Sequence[Content]], sizes: Sizes) -> Pack:
    layouts = [
        lay_out([*(segment_of(part, 2) for part in parts), ImageSegment("noised", rows // 2, cols // 2)])
        for parts, (rows, cols) in zip(samples, sizes, strict=True)
    ]
    return pack(layouts, [[*map(hashable, parts), None] for parts in samples])


def noised(sizes: Sizes) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(48, *size, generator=generator) for size in sizes]


def joint(model, samples: Sequence[Sequence[Content]], sizes: Sizes, attention: Attention = SDPA) -> list[Tensor]:
    """At times 0.3, 0.4 and so on."""
    tokens = packed(samples, sizes)
    states, t = und_states(model.und, tokens), 0.3 + 0.1 * torch.arange(len(samples))
    return velocities(model.gen, model.fusion, tokens, states.__getitem__, noised(sizes), t, attention)


def assert_the_oracles(model, samples: Sequence[Sequence[Content]], sizes: Sizes, attention: Attention = SDPA) -> None:
    found = joint(model, samples, sizes, attention)
    assert len(found) == len(samples)
    for i, (ours, parts, x) in enumerate(zip(found, samples, noised(sizes), strict=True)):
        assert ours.dtype == torch.float32
        truth = oracle.velocity(model, list(parts), x[None], 0.3 + 0.1 * i)
        assert oracle.relative(ours, truth[0]) < NEAR


@pytest.fixture(scope="module")
def samples(tiny) -> dict[str, list[Content]]:
    words = tiny.text("make the circle blue")
    one = [tiny.clean(noise_picture(1)), tiny.vit(noise_picture(1)), words]
    three: list[Content] = []
    for i, size in ((1, (96, 96)), (2, (128, 64)), (3, (64, 96))):
        three += [tiny.clean(noise_picture(i, *size)), tiny.vit(noise_picture(i, *size))]
    return {
        "text to image": [tiny.text("a red circle")],
        "nothing": [],
        "edit": one,
        "edit, no words": one[:2],
        "edit, clean only": [one[0], words],
        "edit, vit only": one[1:],
        "three sources": [*three, words],
        "a turn after it": [*one, tiny.clean(noise_picture(4)), words],
    }


MIX = ("text to image", "three sources", "nothing", "edit", "a turn after it", "edit, vit only")
SIZES = [(4, 6), (6, 4), (4, 4), (4, 6), (8, 4), (4, 6)]


@pytest.mark.parametrize("size", [(4, 6), (6, 6)], ids=str)  # the latter is that of a source
@pytest.mark.parametrize(
    "name",
    ["text to image", "nothing", "edit", "edit, no words", "edit, clean only", "edit, vit only", "three sources"],
)
def test_a_sample_alone(tiny, samples, name, size):
    assert_the_oracles(tiny, [samples[name]], [size])


def test_samples_of_several_sizes_in_one_row(tiny, samples):
    assert_the_oracles(tiny, [samples[name] for name in MIX], SIZES)


def test_samples_of_one_size_a_row_each(tiny, samples):
    names = ("text to image", "edit", "edit, clean only", "nothing")
    assert_the_oracles(tiny, [samples[name] for name in names], [(6, 6)] * 4)


def test_pictures_that_reach_much_attend_in_groups(tiny, samples, monkeypatch):
    monkeypatch.setattr(module, "SHORT", 0)
    names = ("text to image", "three sources", "edit", "edit, clean only", "nothing")
    assert_the_oracles(tiny, [samples[name] for name in names], [(6, 6)] * 5)


@pytest.mark.parametrize("few", [0, None])
def test_with_a_mask_or_a_call_for_each_length(tiny, samples, few):
    assert_the_oracles(tiny, [samples[name] for name in MIX], [(4, 6)] * 6, Attention(SDPA.dense, few=few))


def test_what_samples_share_goes_through_once(tiny, samples):
    """Two turns and a branch: one source picture for all, another for one of them; targets of two sizes."""
    three = [samples["edit"], samples["a turn after it"], samples["edit"]]
    seen: list[tuple[int, int]] = []
    block = tiny.gen.blocks[0]
    hook = block.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[:2])))
    assert_the_oracles(tiny, three, [(4, 4), (4, 6), (4, 6)])
    hook.remove()
    assert seen[0] == (1, 9 + 9 + 4 + 6 + 6)


def test_samples_alike_but_for_the_targets_size_each_have_their_own_markers(tiny, samples):
    assert_the_oracles(tiny, [samples["nothing"]] * 3, [(4, 4), (4, 8), (8, 4)])


@pytest.mark.parametrize("names", [["nothing"], ["text to image"], ["edit", "edit"], ["three sources"], MIX], ids=str)
def test_every_layer_is_called_once_whatever_a_batch_holds(samples, names):
    model, calls = make_tiny(), Counter()
    for i, block in enumerate(model.gen.blocks):
        block.register_forward_hook(lambda module, args, out, i=i: calls.update([f"block {i}"]))
    for i, layer in enumerate(model.fusion.layers):
        whole = layer.joint
        layer.joint = lambda *args, i=i, whole=whole: calls.update([f"fusion {i}"]) or whole(*args)
    joint(model, [samples[name] for name in names], SIZES[: len(names)])
    assert calls == Counter([f"block {i}" for i in range(4)] + [f"fusion {i}" for i in range(3)])


def test_pictures_of_nearly_equal_reach_attend_together_and_others_apart(monkeypatch):
    monkeypatch.setattr(module, "SHORT", 8)
    keys = [torch.arange(n) for n in (10, 9, 5, 10, 10)]
    found = groups(keys, [2, 2, 2, 2, 3], range(5), torch.device("cpu"))
    assert [(n, reach.lengths) for n, reach in found.each] == [(2, (10, 10, 9)), (2, (5,)), (3, (10,))]
    assert found.tokens.tolist() == [0, 1, 6, 7, 2, 3, 4, 5, 8, 9, 10]
    assert found.tokens[found.order].tolist() == list(range(11))
    ten = list(range(10))
    assert found.keys.tolist() == [*ten, *ten, 0, *range(9), *range(5), *ten]


def test_pictures_that_reach_little_attend_together_in_their_order():
    keys = [torch.arange(n) for n in (3, 9, 5, 2)]
    found = groups(keys, [2, 2, 2, 2], range(1, 4), torch.device("cpu"))
    assert [(n, reach.lengths, reach.width) for n, reach in found.each] == [(2, (9, 5, 2), 9)]
    assert (found.tokens, found.order) == (slice(2, 8), None)
    assert found.keys.view(3, 9)[1].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4]


def test_all_groups_keys_are_taken_at_once(tiny, samples, monkeypatch):
    """Else the backward pass would add up as many gradients of all keys as there are groups."""
    calls, taken = [], module._taken
    monkeypatch.setattr(module, "_taken", lambda *given: calls.append(given) or taken(*given))
    joint(tiny, [samples[name] for name in MIX], SIZES)
    assert len(calls) == 4 * 3  # queries, keys, values and the way back, in each layer


def test_without_fusion_sources_are_not_sent_through(tiny, samples):
    model, seen = make_tiny(blocks=1), []
    model.gen.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    joint(model, [samples["edit"]], [(4, 6)])
    assert seen == [6]


def test_packed_pictures_attend_as_each_does_alone_by_the_stock_processor(tiny):
    grids = [(2, 3), (2, 3), (3, 2), (1, 4), (2, 3)]
    sizes = tuple(rows * cols for rows, cols in grids)
    tables = [tiny.gen.rotary(grid, torch.device("cpu")) for grid in grids]
    cos, sin = (torch.cat(table, dim=1) for table in zip(*tables, strict=True))
    attn = tiny.gen.blocks[0].attn1
    x = torch.randn(1, sum(sizes), 64, generator=torch.Generator().manual_seed(0))
    ours = attn.processor(attn, x, rotary_emb=PackedRotary(cos, sin, sizes))
    stock = WanAttnProcessor()
    alone = [stock(attn, part, rotary_emb=table) for part, table in zip(x.split(sizes, dim=1), tables, strict=True)]
    assert oracle.relative(ours, torch.cat(alone, dim=1)) < NEAR


@pytest.mark.slow
def test_a_compiled_block_is_not_compiled_anew_for_pictures_of_other_sizes(samples):
    torch._dynamo.reset()
    model, regions = make_tiny(blocks=2), CompileCounter()
    for block in model.gen.blocks:
        block.compile(dynamic=True, backend=regions)
    counts = []
    for sizes in ([(4, 6), (6, 6), (4, 4)], [(8, 4), (4, 4), (6, 8)], [(6, 6), (4, 8), (4, 6)]):
        joint(model, [samples[name] for name in ("nothing", "edit", "text to image")], sizes)
        counts.append(regions.frame_count)
    torch._dynamo.reset()
    assert 0 < counts[0] == counts[1] == counts[2]
