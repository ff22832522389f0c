"""Which dtype each weight has in each mode, what float8 keeps of a matrix, and what a mode costs."""

from __future__ import annotations

import pytest
import torch

from lightbagel_core.config import NANO
from lightbagel_core.files import precision
from lightbagel_core.files.components import COMPONENTS
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.guidance import Guidance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_what_stays_exact_in_every_mode(saved, dtype):
    model = LightBagel.from_pretrained(saved, "cpu", dtype)
    model.need(*COMPONENTS)
    embedder, block = model.gen.dit.condition_embedder, model.gen.blocks[0]
    exact = [embedder.time_proj.weight, embedder.time_embedder.linear_1.weight, block.scale_shift_table]
    exact += [block.norm2.weight, model.gen.dit.scale_shift_table, model.gen.dit.proj_out.weight]
    exact += [model.fusion[0].und_norm.weight, model.fusion[0].k_norm.weight, *model.vae.parameters()]
    assert {weight.dtype for weight in exact} == {torch.float32}
    half = {torch.float8_e4m3fn: torch.bfloat16}.get(dtype, dtype)
    assert model.gen.dtype == half
    assert model.und.vlm.dtype == (torch.bfloat16 if dtype == torch.float16 else half)  # Qwen overflows in float16
    matrices = [block.ffn.net[0].proj, block.attn1.to_q, model.fusion[0].und_k, model.fusion[1].gen_out]
    matrices += [
        model.und.vlm.model.language_model.layers[0].mlp.up_proj,
        model.und.vlm.model.visual.blocks[0].mlp.up_proj,
    ]
    kinds = {(m.weight.dtype, type(m)) for m in matrices}
    float8 = dtype == torch.float8_e4m3fn
    layer = precision.Float8Linear if float8 else torch.nn.Linear
    assert kinds == {(dtype, layer)} | ({(torch.bfloat16, layer)} if dtype == torch.float16 else set())
    rest = [model.und.vlm.lm_head, embedder.text_embedder.linear_1, model.gen.dit.patch_embedding]
    assert all(torch.finfo(m.weight.dtype).bits >= 16 for m in rest)


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.bfloat16, 0.04), (torch.float16, 0.01), (torch.float8_e4m3fn, 0.08)]
)
def test_what_a_mode_costs(nano, dtype, most):
    """Relative error of the guided velocity on the nano; `benchmarks/precision.py` makes the README's table."""
    model = LightBagel.from_pretrained(NANO, "cpu", dtype)
    x = nano.noise(1, 128, 128, 5)
    guidance = Guidance(2.0, 1.0)
    velocities = [guided(m, x, guidance) for m in (nano, model)]
    assert (velocities[0] - velocities[1]).norm() / velocities[0].norm() < most


def guided(model: LightBagel, x: torch.Tensor, guidance: Guidance) -> torch.Tensor:
    texts = [[model.text("a red circle")], [model.text("")]]
    full, negative = (model.velocity(x, 0.6, model.encode([text], 128, 128)) for text in texts)
    return negative + guidance.text * (full - negative)


def test_float8_keeps_relative_precision_whatever_the_scale():
    for factor in (1e-6, 1.0, 1e4):
        weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * factor
        held, scale = precision.quantised(weight)
        assert held.dtype == torch.float8_e4m3fn
        error = precision.widened(held, scale, torch.float32) - weight
        assert error.norm() / weight.norm() < 0.03  # three bits of mantissa
        assert (error.abs() <= weight.abs() / 16 + weight.abs().amax() / 448 / 2**9).all()
    held, scale = precision.quantised(torch.zeros(4, 4))
    assert scale == 1
    assert not precision.widened(held, scale, torch.float32).any()


def test_an_unknown_dtype_is_refused(saved):
    with pytest.raises(ValueError, match=r"does not run in torch.float64; choose float32, bfloat16, float16, float8"):
        LightBagel.from_pretrained(saved, "cpu", torch.float64)


def test_apple_gpus_have_no_float8():
    mps = torch.device("mps")
    assert precision.Precision.of(None, mps) == precision.Precision(torch.bfloat16, False)
    with pytest.raises(ValueError, match="an Apple GPU has no float8"):
        precision.Precision.of(torch.float8_e4m3fn, mps)
