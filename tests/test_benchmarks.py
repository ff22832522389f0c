"""The benchmarks: the operations they say each path has to do against torch's own count of them, and that what is
compared is comparable. No time is looked at."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for benchmarks/, which are not installed

from benchmarks import edit, flops, image, load, runs, step
from benchmarks.models import RUNNING, WithoutVae, model_for, modules_of, on_meta, plain_wan
from benchmarks.timing import interleaved, launches, ratio, table
from lightbagel_core.config import NANO, PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.files.tokenizer import open_tokenizer
from lightbagel_core.model.generation import Generation
from lightbagel_core.model.understanding import Understanding
from lightbagel_core.pipeline import LightBagel

META = torch.device("meta")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def nano_without_vae() -> LightBagel:
    return model_for(CPU)


@pytest.fixture(scope="module")
def real() -> LightBagel:
    """The real size on the meta device: shapes without numbers."""
    config = read_config(PUBLISHED)
    with on_meta():
        modules = modules_of(config, "bfloat16", META, RUNNING)
    und = Understanding(modules["understanding"], open_tokenizer(NANO), None, META)
    return WithoutVae(config, und, Generation(modules["generation"]), modules["fusion"], modules["vae"])


def counted(call: Callable[[], object]) -> int:
    """Operations by torch's count, once all that is made only once has been made."""
    with on_meta(scaled_dot_product_attention), torch.no_grad():
        call()
        with FlopCounterMode(display=False) as counter:
            call()
    tables = counter.get_flop_counts().get("Qwen2_5_VLRotaryEmbedding", {})  # a product in transformers 4 only
    return counter.get_total_flops() - sum(tables.values())


@pytest.mark.parametrize(("rows", "size"), [(1, (64, 64)), (2, (32, 48))])
def test_a_plain_wan_step(real, rows, size):
    x = torch.empty(rows, 48, 1, *size, device=META, dtype=torch.bfloat16)
    context = torch.empty(rows, 512, 4096, device=META, dtype=torch.bfloat16)
    times = torch.empty(rows, device=META)
    wan = plain_wan(real)
    found = counted(lambda: wan(hidden_states=x, timestep=times, encoder_hidden_states=context))
    assert found == flops.wan_step(real.config, rows, size[0] * size[1] // 4)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_fused_step(real, rows):
    samples = [[[0] * 60]] * rows
    x = torch.empty(rows, 48, 64, 32, device=META)
    with on_meta():
        context = real.encode(samples, 512, 1024)
    config = real.config
    assert counted(lambda: real.velocity(x, 0.5, context)) == flops.fused_step(config, 512, [62] * rows)


@pytest.mark.parametrize("make", [runs.drawing, lambda m, size: runs.edit(m, size, sources=2)])
def test_an_encode(real, make):
    """Of all branches; what they have in common counts once."""
    with on_meta():
        work = make(real, 512)
    found = counted(lambda: real.encode(work.samples, 512, 512))
    assert found == flops.encode(real.config, runs.packed(real, work, work.samples))


def test_the_published_size_is_what_the_issue_of_speed_counts(real):
    """At 1024 x 1024, one branch: 12.1 TFLOP, of which the fusion 2.6; a fifth more than Wan alone."""
    fused = flops.fused_step(real.config, 1024, [66])
    assert fused == pytest.approx(12.1e12, rel=0.01)
    assert 29 * flops.fusion_layer(real.config, 1024, 1024 + 66) == pytest.approx(2.6e12, rel=0.02)
    assert fused / flops.wan_step(real.config, 1, 1024) == pytest.approx(1.21, abs=0.01)


def test_calls_take_turns():
    called = []
    times = interleaved({name: lambda name=name: called.append(name) for name in "ab"}, 3, CPU)
    assert "".join(called) == "abababab"  # the first two warm up
    assert [len(each) for each in times.values()] == [3, 3]
    assert ratio({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 1.0]}, "a", "b") == 3


def test_operators_are_counted():
    x = torch.ones(2, 2)
    assert launches(lambda: (x + x) @ x, CPU) == {"operators": 2}
    doubled = torch.compile(lambda: x + x, backend="eager", fullgraph=True)
    assert launches(doubled, CPU, compiled=True) == {}


def test_a_table_names_every_figure():
    assert table([{"a": 1, "b": 0.12345}, {"a": 20, "c": None}]).splitlines() == [
        "a      1  20",
        "b  0.123   -",
        "c      -   -",
    ]


def dtypes_of(module: torch.nn.Module) -> dict[str, torch.dtype]:
    return {name: parameter.dtype for name, parameter in module.named_parameters()}


def test_the_plain_wan_is_the_dit_called_itself(nano_without_vae, tmp_path):
    x, times, context = torch.randn(2, 48, 1, 8, 8), torch.full((2,), 700.0), torch.randn(2, 8, 256)

    def out(wan: torch.nn.Module, dtype: torch.dtype) -> torch.Tensor:
        arguments = {"hidden_states": x.to(dtype), "timestep": times, "encoder_hidden_states": context.to(dtype)}
        return wan(**arguments).sample.float()

    full = out(nano_without_vae.gen.dit, torch.float32)
    torch.testing.assert_close(out(plain_wan(nano_without_vae), torch.float32), full)
    half = WithoutVae.from_pretrained(NANO, "cpu", torch.bfloat16)  # diffusers keeps less of it in float32 than we do
    half.need(*RUNNING)
    assert (out(plain_wan(half), torch.bfloat16) - full).norm() < 0.1 * full.norm()
    half.gen.dit.save_pretrained(tmp_path)
    theirs = WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert dtypes_of(plain_wan(half)) == dtypes_of(theirs)


@pytest.mark.parametrize("make", [lambda m: runs.drawing(m, 96, prompts=2), lambda m: runs.edit(m, 96, sources=2)])
def test_the_naive_way_draws_the_same(nano_without_vae, make):
    work = make(nano_without_vae)
    drawn, slowly = (way(nano_without_vae, work, 3) for way in (runs.ours, runs.naive))
    torch.testing.assert_close(drawn, slowly, rtol=1e-3, atol=1e-3)


def test_a_plain_wan_draws_what_ours_does_when_the_fusion_adds_nothing():
    unfused = model_for(CPU)
    for layer in unfused.fusion.layers:
        layer.gen_out.weight.zero_()
    work = runs.drawing(unfused, 96, prompts=2)
    drawn, plainly = runs.ours(unfused, work, 3), runs.plain(unfused, plain_wan(unfused), work, 3)
    torch.testing.assert_close(drawn, plainly, rtol=1e-3, atol=1e-3)


def test_forwards_of_a_picture(nano_without_vae):
    model, steps = nano_without_vae, 4
    with runs.forwards(model) as drawn:
        runs.ours(model, runs.drawing(model, 64), steps)
    assert drawn == {"vlm_passes": 1, "dit_rows": 2 * steps, "fusion_updates": 5 * steps}
    with runs.forwards(model) as slowly:
        runs.naive(model, runs.edit(model, 64), steps)
    # Two of the three branches see the source.
    assert slowly["vlm_passes"] == 3 * steps
    assert slowly["dit_rows"] == (3 + 2) * steps
    with runs.forwards(model) as nothing:
        pass
    assert not any(nothing.values())


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (step, ["--sizes", "64", "--threads", str(torch.get_num_threads())]),
        (image, ["--size", "64", "--steps", "1"]),
        (edit, ["--size", "64", "--steps", "1"]),
    ],
)
def test_each_prints_its_figures_and_writes_them(module, options, tmp_path, monkeypatch, capsys):
    file = tmp_path / "figures.json"
    words = [module.__name__, "--device", "cpu", "--rounds", "1", "--json", str(file), *options]
    monkeypatch.setattr(sys, "argv", words)
    module.main()
    printed, written = capsys.readouterr().out, json.loads(file.read_text("utf-8"))
    figures = written["rows"][0] if module is step else written
    for name in ("naive_over_ours", "ours_over_wan", "ours_over_wan_predicted", "ours_over_floor", "peak_gb"):
        assert figures[name] > 0
        assert name in printed


def test_loading_the_nano_is_measured(capsys):
    load.one(NANO, torch.float32, list(RUNNING), CPU)
    figures = json.loads(capsys.readouterr().out)
    assert figures["made_gb"] == figures["weights_gb"] > figures["stored_gb"] > 0  # it is stored in half precision
