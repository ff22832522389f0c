"""What lies on the device, and when: parts are read when needed, given up, streamed; in every dtype."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_tiny
from PIL import Image

from lightbagel_core.config import NANO
from lightbagel_core.files import precision
from lightbagel_core.files.components import COMPONENTS
from lightbagel_core.memory import offload as residency
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.sampling.guidance import Guidance

PICTURE = Image.new("RGB", (96, 64), "red")
RUN = {"steps": 2, "progress": False, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    make_tiny().save_pretrained(path)
    return path


def modules(model: LightBagel) -> dict[str, torch.nn.Module]:
    return {"understanding": model.und.vlm, "generation": model.gen.dit, "fusion": model.fusion, "vae": model.vae}


def present(model: LightBagel) -> set[str]:
    """Parts that have any weights."""
    return {name for name, module in modules(model).items() if not all(p.is_meta for p in module.parameters())}


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The parts that were read from files, in order."""
    names: list[str] = []
    fill = residency.fill
    monkeypatch.setattr(residency, "fill", lambda part, *rest: (names.append(part), fill(part, *rest)))
    return names


def test_a_part_is_read_when_it_is_first_needed_and_once(folder, read):
    model = LightBagel.from_pretrained(folder, "cpu")
    assert read == []
    model.text("a red circle")
    assert read == []
    model.describe(PICTURE, max_new_tokens=2)
    assert read == ["understanding"]
    model.generate("a red circle", **RUN)
    assert read == ["understanding", "generation", "fusion", "vae"]
    model.edit(PICTURE, "make the circle blue", **RUN)
    assert len(read) == 4


def test_the_vlm_can_be_given_up_before_denoising(folder, read):
    model = LightBagel.from_pretrained(folder, "cpu")
    context = model.encode([[model.text("a red circle")]], 96, 64)
    assert present(model) == {"understanding", "generation", "fusion"}
    model.release("understanding")
    assert present(model) == {"generation", "fusion"}
    assert not any(
        "understanding.safetensors" in line for line in Path("/proc/self/maps").read_text("utf-8").splitlines()
    )
    velocity = model.velocity(model.noise(1, 96, 64, 0), 0.5, context)
    assert torch.isfinite(velocity).all()
    model.describe(PICTURE, max_new_tokens=2)  # comes back by itself
    assert read.count("understanding") == 2


def test_without_conversion_a_weight_is_its_place_in_the_file(folder):
    """No second copy: on the CPU nothing but what is computed in another dtype is the process's own memory."""
    model = LightBagel.from_pretrained(folder, "cpu")
    model.need(*COMPONENTS)
    lines = [line.split() for line in Path("/proc/self/maps").read_text("utf-8").splitlines() if str(folder) in line]
    spans = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    for name, module in modules(model).items():
        for key, weight in module.named_parameters():
            assert any(low <= weight.data_ptr() < high for low, high in spans), (name, key)


@pytest.mark.parametrize("offload", ["parts", "layers"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float8_e4m3fn])
def test_offloaded_runs_are_the_same(folder, offload, dtype):
    guided = {**RUN, "image_guidance": 1.5}
    kept, saving = (LightBagel.from_pretrained(folder, "cpu", dtype, offload=o) for o in (None, offload))
    pictures = [m.edit(PICTURE, "make the circle blue", **guided)[0].tobytes() for m in (kept, saving)]
    assert pictures[0] == pictures[1]
    drawn = [m.generate("a red circle", **RUN)[0].tobytes() for m in (kept, saving)]
    assert drawn[0] == drawn[1]
    assert len({m.describe(PICTURE, max_new_tokens=4) for m in (kept, saving)}) == 1


def test_parts_are_there_only_while_they_are_needed(folder, monkeypatch):
    model = LightBagel.from_pretrained(folder, "cpu", offload="parts")
    seen = []
    fill = residency.fill
    monkeypatch.setattr(residency, "fill", lambda part, *rest: (fill(part, *rest), seen.append(present(model))))
    model.edit(PICTURE, "make the circle blue", **RUN)
    both = {"generation", "fusion"}
    assert seen == [{"vae"}, {"understanding"}, {"generation"}, both, {"vae"}]
    assert present(model) == {"vae"}


def test_of_several_sources_each_part_is_read_once(folder, read):
    model = LightBagel.from_pretrained(folder, "cpu", offload="parts")
    model.edit([PICTURE, PICTURE, PICTURE], "make the circle blue", **RUN)
    assert read == ["vae", "understanding", "generation", "fusion", "vae"]


def test_files_that_changed_since_they_were_opened_are_not_read(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "tiny")
    model = LightBagel.from_pretrained(tmp_path / "tiny", "cpu", offload="parts")
    model.need("vae")
    make_tiny().save_pretrained(tmp_path / "tiny", torch.bfloat16)
    with pytest.raises(ValueError, match=r"generation\.safetensors .*replaced or changed after it was opened"):
        model.need("generation")


def test_layers_are_there_only_while_they_compute(folder):
    """The weights on the device at any time are those of one layer: Accelerate puts back what it brought."""
    model = LightBagel.from_pretrained(folder, "cpu", offload="layers")
    model.need(*COMPONENTS)
    most = 0

    def watch(*_):
        nonlocal most
        here = sum(p.numel() for m in modules(model).values() for p in m.parameters() if not p.is_meta)
        most = max(most, here)

    for module in modules(model).values():
        for inner in module.modules():
            if isinstance(inner, torch.nn.Linear):
                inner.register_forward_hook(watch)
    model.edit(PICTURE, "make the circle blue", **RUN)
    everything = sum(p.numel() for m in modules(model).values() for p in m.parameters())
    assert 0 < most < everything / 5
    model.release(*COMPONENTS)
    assert present(model) == set()
    assert model.generate("a red circle", **RUN)[0].size == (96, 64)


def test_streaming_says_what_it_needs(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match="needs Accelerate: pip install accelerate"):
        LightBagel.from_pretrained(folder, "cpu", offload="layers")


# --- precision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_what_stays_exact_in_every_mode(folder, dtype):
    model = LightBagel.from_pretrained(folder, "cpu", dtype)
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


def test_an_unknown_dtype_is_refused(folder):
    with pytest.raises(ValueError, match=r"does not run in torch.float64; choose float32, bfloat16, float16, float8"):
        LightBagel.from_pretrained(folder, "cpu", torch.float64)


def test_apple_gpus_have_no_float8():
    mps = torch.device("mps")
    assert precision.Precision.of(None, mps) == precision.Precision(torch.bfloat16, False)
    with pytest.raises(ValueError, match="an Apple GPU has no float8"):
        precision.Precision.of(torch.float8_e4m3fn, mps)


def test_a_float8_model_is_not_saved_half(folder, tmp_path):
    model = LightBagel.from_pretrained(folder, "cpu", torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="cannot be saved; convert its files instead"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
