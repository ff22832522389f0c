"""The pieces of the DiT's forward pass against the stock one's, and against patches cut by hand."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from tiny import make_tiny
from torch import Tensor

from lightbagel_core.files.precision import weight_dtype
from lightbagel_core.model import generation

ROWS, COLS, PATCH = 2, 3, 2


@pytest.fixture
def gen(tiny):
    return tiny.gen


def latents(count: int = 2) -> Tensor:
    return torch.randn(count, 48, ROWS * PATCH, COLS * PATCH, generator=torch.Generator().manual_seed(0))


def cut(x: Tensor, row: int, col: int) -> Tensor:
    """The patch of token (row, col), [B, C, p, p]."""
    return x[:, :, row * PATCH : (row + 1) * PATCH, col * PATCH : (col + 1) * PATCH]


def test_a_token_is_a_patch_row_by_row(gen):
    x, convolution = latents(), gen.dit.patch_embedding
    tokens = gen.embed(x)
    for row in range(ROWS):
        for col in range(COLS):
            expected = torch.einsum("dcpq,bcpq->bd", convolution.weight[:, :, 0], cut(x, row, col)) + convolution.bias
            torch.testing.assert_close(tokens[:, row * COLS + col], expected, rtol=1e-5, atol=1e-5)


def test_the_head_puts_each_token_where_its_patch_was(gen):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, ROWS * COLS, 64, generator=generator)
    temb = torch.randn(2, 64, generator=generator)
    picture = gen.head(tokens, temb, (ROWS, COLS))
    assert picture.shape == (2, 48, ROWS * PATCH, COLS * PATCH)
    shift, scale = (gen.dit.scale_shift_table[0] + temb[:, None]).unbind(1)
    normed = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    out = (normed * (1 + scale[:, None]) + shift[:, None]) @ gen.dit.proj_out.weight.T + gen.dit.proj_out.bias
    for row in range(ROWS):
        for col in range(COLS):
            values = out[:, row * COLS + col].view(2, PATCH, PATCH, 48)  # a patch's values: row, column, channel
            torch.testing.assert_close(cut(picture, row, col), values.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_time_is_the_stock_embedders(gen):
    t = torch.tensor([0.0, 0.3, 1.0])
    states = torch.zeros(3, 5, 24)
    temb, modulation, _, _ = gen.dit.condition_embedder(t * 1000, states)
    ours = gen.time(t)
    torch.testing.assert_close(ours[0], temb, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1].flatten(1), modulation, rtol=1e-5, atol=1e-5)


def test_rotary_tables_are_the_stock_ones(gen):
    ours = gen.rotary((ROWS, COLS), torch.device("cpu"))
    for mine, theirs in zip(ours, gen.dit.rope(latents()[:, :, None]), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("size", [(5, 6), (4, 1), (0, 4)])
def test_latents_that_are_no_whole_patches_are_refused(gen, size):
    with pytest.raises(ValueError, match="does not divide into patches of 2x2"):
        gen.embed(torch.zeros(1, 48, *size))


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("blocks.0.attn1.to_q.weight", False),
        ("blocks.3.attn2.norm_k.weight", False),
        ("blocks.3.ffn.net.2.bias", False),
        ("patch_embedding.weight", False),
        ("condition_embedder.text_embedder.linear_1.weight", False),
        ("condition_embedder.time_embedder.linear_1.weight", True),
        ("condition_embedder.time_proj.bias", True),
        ("blocks.0.scale_shift_table", True),
        ("blocks.0.norm2.weight", True),
        ("scale_shift_table", True),
        ("proj_out.weight", True),
    ],
)
def test_what_of_the_dit_stays_float32(name, exact):
    assert weight_dtype(name, torch.bfloat16) == (torch.float32 if exact else torch.bfloat16)


@pytest.mark.parametrize("packed", [False, True])
def test_kernels_get_one_dtype_where_autocast_leaves_norms_in_float32(monkeypatch, packed):
    """As torch from 2.14 on does; flash attention refuses what differs."""
    block, seen = make_tiny().gen.blocks[0], []
    for attn in (block.attn1, block.attn2):
        for norm in (attn.norm_q, attn.norm_k):
            norm.register_forward_hook(lambda module, args, out: out.float())
    dispatch = generation.dispatch_attention_fn

    def watched(*given, **options):
        seen.append({x.dtype for x in given})
        return dispatch(*given, **options)

    monkeypatch.setattr(generation, "dispatch_attention_fn", watched)
    cos, sin = (torch.randn(1, 6, 1, 32) for _ in range(2))
    rotary = generation.PackedRotary(cos, sin, (6,)) if packed else (cos, sin)
    x, context = torch.randn(1, 6, 64), torch.randn(1, 5, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # as where training validates
        block.attn1(x, rotary_emb=rotary)
        block.attn2(x, context)
    assert seen == [{torch.bfloat16}] * 2


def test_in_training_rows_of_one_size_attend_as_by_the_stock_processor(gen):
    attn, x = gen.blocks[0].attn1, torch.randn(2, ROWS * COLS, 64, generator=torch.Generator().manual_seed(0))
    rotary = gen.rotary((ROWS, COLS), torch.device("cpu"))
    x.requires_grad_()
    ours, stock = (processor(attn, x, rotary_emb=rotary) for processor in (attn.processor, WanAttnProcessor()))
    assert "CopySlices" not in graph(ours.grad_fn)
    assert "CopySlices" in graph(stock.grad_fn)
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(attn.processor(attn, x, rotary_emb=rotary), stock)


def graph(node) -> set[str]:
    """Names of all that a backward pass goes through."""
    names, left, seen = set(), [node], set()
    while left:
        if (node := left.pop()) is not None and node not in seen:
            seen.add(node)
            names.add(type(node).__name__)
            left += [following for following, _ in node.next_functions]
    return names
