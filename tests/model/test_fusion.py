"""The fusion layer against its formulas written out: norm, rotation, and attention as one dense softmax."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_config
from torch import Tensor

from lightbagel_core.model.fusion import FusionStack, MultimodalSelfAttention, RMSNorm, rotate

CONFIG = tiny_config().fusion
B, P, N, H, D = 2, 5, 3, CONFIG.heads, CONFIG.head_dim


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def angles(seed: int) -> Tensor:
    """[B, N, D / 2], as far as a long prompt turns them."""
    return noise(B, N, D // 2, seed=seed) * 100


def tables(angle: Tensor) -> tuple[Tensor, Tensor]:
    twice = torch.cat([angle, angle], dim=-1)
    return twice.cos(), twice.sin()


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Halves of x [B, N, H, D] as real and imaginary parts, times e^(i angle)."""
    low, high = x.double().chunk(2, dim=-1)
    turned = torch.complex(low, high) * torch.polar(torch.ones_like(angle).double(), angle.double())[:, :, None]
    return torch.cat([turned.real, turned.imag], dim=-1).float()


def normed(x: Tensor, weight: Tensor) -> Tensor:
    x = x.double()
    return (x / (x.square().mean(-1, keepdim=True) + CONFIG.eps).sqrt() * weight).float()


@pytest.fixture
def layer() -> MultimodalSelfAttention:
    torch.manual_seed(0)
    layer = MultimodalSelfAttention(CONFIG).requires_grad_(False)
    torch.nn.init.normal_(layer.gen_out.weight, std=0.3)
    for norm in (layer.q_norm, layer.k_norm, layer.und_norm, layer.gen_norm):
        torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    return layer


def test_the_norm_is_computed_in_float32_whatever_comes():
    norm = RMSNorm(8, eps=1e-6)
    torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    x = noise(4, 8) * 1e4
    torch.testing.assert_close(norm(x), normed(x, norm.weight), rtol=1e-6, atol=1e-6)
    half = (x / 100).half()  # its squares are more than float16 holds
    got = norm(half)  # by weights of another dtype, as in a model that runs in half precision
    assert got.dtype == torch.float16
    torch.testing.assert_close(got, normed(half, norm.weight).half(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("training", [False, True])
def test_a_rotation_is_a_complex_product(training):
    with torch.set_grad_enabled(training):
        _rotates()


def _rotates():
    x, angle = noise(B, N, H, D, seed=1), angles(2)
    torch.testing.assert_close(rotate(x, tables(angle)), turned(x, angle), rtol=1e-5, atol=1e-5)
    assert rotate(x.bfloat16(), tables(angle)).dtype == torch.bfloat16


def test_a_layer_is_one_dense_softmax_over_prefix_and_self(layer):
    g, angle = noise(B, N, CONFIG.gen_dim, seed=1), angles(2)
    keys, values = noise(B, P + N, H, D, seed=3), noise(B, P + N, H, D, seed=4)
    prefix = keys[:, :P].clone(), values[:, :P].clone()

    def heads(linear: torch.nn.Linear, x: Tensor) -> Tensor:
        return (x @ linear.weight.T + linear.bias).view(B, N, H, D)

    x = normed(g, layer.gen_norm.weight)
    q = turned(normed(heads(layer.gen_q, x), layer.q_norm.weight), angle)
    k = torch.cat([prefix[0], turned(normed(heads(layer.gen_k, x), layer.k_norm.weight), angle)], dim=1)
    v = torch.cat([prefix[1], heads(layer.gen_v, x)], dim=1)
    weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) / D**0.5).softmax(-1)
    expected = g + torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2) @ layer.gen_out.weight.T

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)

    got = layer(g, tables(angle), keys, values, attend)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(keys, k, rtol=1e-5, atol=1e-5)  # its own stand in the buffers' last places now
    torch.testing.assert_close(values, v, rtol=1e-5, atol=1e-5)


def test_und_states_may_be_larger_than_half_precision_holds(layer):
    u, angle = noise(B, N, CONFIG.und_dim, seed=1) * 1e6, angles(2)
    exact = layer.und_key_value(u, tables(angle), torch.float32)
    for got, wanted in zip(layer.half().und_key_value(u, tables(angle), torch.float16), exact, strict=True):
        assert got.dtype == torch.float16
        torch.testing.assert_close(got.float(), wanted, rtol=1e-2, atol=1e-2)


def test_a_new_stack_leaves_the_dit_alone():
    stack = FusionStack(CONFIG).requires_grad_(False)
    assert len(stack.layers) == CONFIG.layers
    assert stack.context.shape == (CONFIG.context_len, CONFIG.context_dim)
    g = noise(B, N, CONFIG.gen_dim)
    keys, values = noise(B, P + N, H, D, seed=3), noise(B, P + N, H, D, seed=4)
    for i in range(CONFIG.layers):
        assert torch.equal(stack[i](g, tables(angles(2)), keys, values, lambda q, k, v: v[:, :N]), g)
