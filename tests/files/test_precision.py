"""Which dtype each weight has in each mode, what float8 keeps of a matrix, and what a mode costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightbagel_core.config import NANO
from lightbagel_core.files import precision
from lightbagel_core.files.components import COMPONENTS
from lightbagel_core.files.tensor_files import Stored
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
    x = nano.noise(1, 96, 96, 5)
    guidance = Guidance(2.0, 1.0)
    velocities = [guided(m, x, guidance) for m in (nano, model)]
    assert (velocities[0] - velocities[1]).norm() / velocities[0].norm() < most


def guided(model: LightBagel, x: torch.Tensor, guidance: Guidance) -> torch.Tensor:
    texts = [[model.text("a red circle")], [model.text("")]]
    full, negative = (model.velocity(x, 0.6, model.encode([text], 96, 96)) for text in texts)
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


def stored(shape: tuple[int, ...], dtype: torch.dtype) -> Stored:
    return Stored(Path("x.safetensors"), "x", shape, dtype, 0, shape)


RULES = {  # (component, name, shape): as in float32, bfloat16, float16, float8
    ("vae", "encoder.conv_in.weight", (4, 4)): "f32 f32 f32 f32",
    ("understanding", "model.language_model.layers.0.mlp.up_proj.weight", (4, 4)): "f32 bf16 bf16 f8",
    ("understanding", "model.language_model.layers.0.input_layernorm.weight", (4,)): "f32 bf16 bf16 bf16",
    ("understanding", "model.language_model.embed_tokens.weight", (4, 4)): "f32 bf16 bf16 bf16",
    ("understanding", "model.visual.blocks.1.attn.qkv.weight", (4, 4)): "f32 bf16 bf16 f8",
    ("generation", "blocks.0.attn1.to_q.weight", (4, 4)): "f32 bf16 f16 f8",
    ("generation", "blocks.0.attn1.to_q.bias", (4,)): "f32 bf16 f16 bf16",
    ("generation", "blocks.0.scale_shift_table", (1, 6, 4)): "f32 f32 f32 f32",
    ("generation", "condition_embedder.time_proj.weight", (4, 4)): "f32 f32 f32 f32",
    ("generation", "proj_out.weight", (4, 4)): "f32 f32 f32 f32",
    ("fusion", "layers.0.gen_q.weight", (4, 4)): "f32 bf16 f16 f8",
    ("fusion", "layers.0.q_norm.weight", (4,)): "f32 f32 f32 f32",
    ("fusion", "context", (5, 4)): "f32 bf16 f16 bf16",
}
SHORT = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f8": torch.float8_e4m3fn}


@pytest.mark.parametrize(("weight", "kinds"), RULES.items(), ids=[f"{c} {n}" for c, n, _ in RULES])
def test_the_one_rule(weight, kinds):
    component, name, shape = weight
    for asked, wanted in zip(SHORT.values(), kinds.split(), strict=True):
        mode = precision.Precision.of(asked, torch.device("cpu"))
        assert precision.dtypes(component, {name: stored(shape, torch.float16)}, mode) == {name: SHORT[wanted]}, asked


def test_float8_in_a_file_stays_where_nothing_else_is_asked_for():
    name = "blocks.0.attn1.to_q.weight"
    tensors = {name: stored((4, 4), torch.float8_e5m2), f"{name}_scale": stored((), torch.float32)}
    cpu, mps = torch.device("cpu"), torch.device("mps")
    for asked, device, wanted in (
        (None, cpu, torch.float8_e5m2),
        (None, mps, torch.bfloat16),  # which has no float8
        (torch.float8_e4m3fn, cpu, torch.float8_e5m2),
        (torch.float16, cpu, torch.float16),
    ):
        mode = precision.Precision.of(asked, device)
        assert precision.dtypes("generation", tensors, mode) == {name: wanted}  # its scale is no weight


def test_a_float8_layer_multiplies_by_what_its_weight_means():
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(8, 4).requires_grad_(False)
    model = torch.nn.Sequential(linear)
    precision.use_float8(model, {"0.weight": torch.float8_e4m3fn, "0.bias": torch.float32})
    held, scale = precision.quantised(linear.weight)
    model.load_state_dict({"0.weight": held, "0.weight_scale": scale, "0.bias": linear.bias}, assign=True)
    x = torch.randn(3, 8, generator=generator)
    means = held.float() * scale
    torch.testing.assert_close(model(x), x @ means.T + linear.bias)
    assert (means - linear.weight).abs().max() <= linear.weight.abs().max() / 16
    again = model[0]
    precision.use_float8(model, {"0.weight": torch.float8_e4m3fn})
    assert model[0] is again
