"""The benchmarks: the operations they say each path has to do against torch's own count of them, and that what is
compared is comparable. No time is looked at."""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from PIL import Image
from scenes import BLUE, PAIR, RED
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import core, flops, load, prepare, reader, run, step, training, ways, worker
from benchmarks.measure import interleaved, ratio, table
from benchmarks.models import RUNNING, WithoutVae, model_for, on_meta, plain_wan, with_random_weights
from benchmarks.quality import Task, agrees, is_right, tasks
from lightbagel_core.__main__ import main as prepare_command
from lightbagel_core.config import NANO, PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.model import joint
from lightbagel_core.pipeline import LightBagel
from lightbagel_core.training.data.store_set import StoreSet
from lightbagel_core.world.edits import Change
from lightbagel_core.world.scenes import Scene, render

META = torch.device("meta")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def nano_without_vae() -> LightBagel:
    return model_for(CPU)


@pytest.fixture(scope="module")
def real() -> LightBagel:
    """The published widths on the meta device, shapes without numbers, of fewer layers: each counts as the next."""
    config = read_config(PUBLISHED)
    config.understanding["text_config"]["num_hidden_layers"] = 5
    config.understanding["vision_config"] |= {"depth": 8, "fullatt_block_indexes": [3, 7]}
    config.generation["num_layers"] = 7
    config = replace(config, fusion=replace(config.fusion, layers=6, und_layers=5))
    with on_meta():
        return with_random_weights(config, "bfloat16", META)


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


@pytest.mark.parametrize("make", [ways.generate, lambda model, size: ways.edit(model, size, sources=2)])
def test_an_encode(real, make):
    """Of all branches; what they have in common counts once."""
    with on_meta():
        work = make(real, 512)
    found = counted(lambda: real.encode(work.samples, 512, 512))
    assert found == flops.encode(real.config, core.constants(real, work.samples, (16, 16)))


def test_the_published_size_is_what_the_issue_of_speed_counts():
    """At 1024 x 1024, one branch: 12.1 TFLOP, of which the fusion 2.6; a fifth more than Wan alone."""
    config = read_config(PUBLISHED)
    fused = flops.fused_step(config, 1024, [66])
    assert fused == pytest.approx(12.1e12, rel=0.01)
    assert 29 * flops.fusion_layer(config, 1024, 1024 + 66) == pytest.approx(2.6e12, rel=0.02)
    assert fused / flops.wan_step(config, 1, 1024) == pytest.approx(1.21, abs=0.01)


def test_calls_take_turns():
    called = []
    times = interleaved({name: lambda name=name: called.append(name) for name in "ab"}, 3, CPU)
    assert "".join(called) == "abababab"  # the first two warm up
    assert [len(each) for each in times.values()] == [3, 3]
    assert ratio({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 1.0]}, "a", "b") == 3


def test_a_table_names_every_figure():
    assert table([{"a": 1, "b": 0.12345}, {"a": 20, "c": None}]).splitlines() == [
        "a      1  20",
        "b  0.123   -",
        "c      -   -",
    ]
    assert table([{"a": 1}, {"a": 2}]).splitlines() == ["a", "1", "2"]  # more rows than figures


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


@pytest.mark.parametrize("make", [lambda m: ways.generate(m, 96, prompts=2), lambda m: ways.edit(m, 96, sources=2)])
def test_the_naive_way_draws_the_same(nano_without_vae, make):
    work = make(nano_without_vae)
    drawn, slowly = (way(nano_without_vae, work, 3) for way in (ways.ours, ways.naive))
    torch.testing.assert_close(drawn, slowly, rtol=1e-3, atol=1e-3)


def test_a_plain_wans_step_is_ours_when_the_fusion_adds_nothing():
    unfused = model_for(CPU)
    for layer in unfused.fusion.layers:
        layer.gen_out.weight.zero_()
    work = ways.generate(unfused, 96, prompts=2)
    found = unfused.velocity(work.noised, 0.7, unfused.encode(work.samples, 96, 96))
    with torch.no_grad():
        plain = ways.wan_velocity(unfused, plain_wan(unfused), work.noised, 0.7)
    torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-3)


def test_both_ways_of_describing_write_the_same():
    """On a small model of the published kind with random weights; and as many tokens as asked for."""
    config = read_config(PUBLISHED)
    und = {**config.understanding}
    und["text_config"] |= {"hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 2}
    und["text_config"] |= {"num_attention_heads": 1, "num_key_value_heads": 1}
    und["vision_config"] |= {"hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "depth": 2}
    und["vision_config"] |= {"fullatt_block_indexes": [1], "out_hidden_size": 128}
    config = replace(config, understanding=und, fusion=replace(config.fusion, und_layers=2, und_dim=128))
    small = with_random_weights(config, "bfloat16", CPU, ("understanding",)).und
    small.vlm.float()  # which a CPU computes sooner
    written = []
    small.vlm.register_forward_hook(lambda *_: written.append(1))
    ours, stock = (call() for call in run.answering(small, run.turns_of(2, 56), 3).values())
    assert ours == stock
    assert len(written) == 6


@pytest.mark.parametrize(
    ("module", "options", "names"),
    [
        (step, ["--sizes", "64"], ["naive_over_ours", "ours_over_wan", "ours_over_wan_predicted"]),
        (run, ["generate", "--sizes", "64", "--steps", "1"], ["naive_over_ours", "ours_s"]),
        (run, ["edit", "--sizes", "64", "--steps", "1"], ["naive_over_ours_predicted", "ours_s_per_image"]),
        (run, ["describe", "--counts", "2", "--tokens", "2"], ["ours_over_stock", "ours_over_alone"]),
        (reader, ["read", "--count", "2"], ["ms"]),
    ],
)
def test_each_prints_its_figures_and_writes_them(module, options, names, tmp_path, monkeypatch, capsys):
    file = tmp_path / "figures.json"
    threads = ["--threads", str(torch.get_num_threads())]
    words = [module.__name__, "--device", "cpu", "--rounds", "1", "--json", str(file), *threads, *options]
    monkeypatch.setattr(sys, "argv", words)
    module.main()
    printed, written = capsys.readouterr().out, json.loads(file.read_text(encoding="utf-8"))
    for name in names:
        assert written["rows"][0][name] > 0
        assert name in printed


def test_another_checkout_is_compared_round_by_round(monkeypatch):
    figures = {"step": 1.0, "norm": 2.0}
    rounds = [[{**figures, "step": a}, {**figures, "step": b, "norm": 3.0}] for a, b in ((1, 2), (8, 4), (2, 6))]
    monkeypatch.setattr(step, "in_turns", lambda trees, *_: {str(len(trees)): rounds})
    [row] = step.compared(Namespace(against=step.HERE), 64)
    assert (row["case"], row["before_ms"], row["after_ms"], row["after_over_before"]) == ("2", 2000, 4000, 2)
    assert row["norm_off"] == 0.5


def test_a_worker_measures_steps_and_what_a_run_costs_beside_them(monkeypatch):
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(worker, "clock", lambda: float(sum(calls)))
        found = worker.a_run(lambda steps: calls.append(3 + 2 * steps) or [3.0, 4.0])()
    assert found == {"step": 2, "overhead": 3, "norm": 5}
    cases = worker.core_cases(64, Image.new("RGB", (64, 64)))
    assert [case()["norm"] > 0 for case in cases.values()] == [True] * 4


def test_loading_the_nano_is_measured():
    figures = load.open_one(NANO, torch.float32, CPU, RUNNING)
    assert figures["made_gb"] == figures["weights_gb"] > figures["stored_gb"] > 0  # it is stored in half precision


def test_scoring_a_generated_picture():
    prompt = "a red circle left of a small blue square on a white background"
    assert agrees(prompt, PAIR, PAIR)
    assert agrees(prompt, PAIR, Scene("white", (replace(RED, size="small"), BLUE)))  # no size was asked of the circle
    assert not agrees(prompt, PAIR, Scene("white", (RED, replace(BLUE, size="large"))))
    assert not agrees(prompt, PAIR, Scene("grey", PAIR.things))
    assert not agrees(prompt, PAIR, Scene("white", (replace(RED, place="right"), replace(BLUE, place="left"))))
    assert not agrees(prompt, PAIR, Scene("white", (RED,)))
    assert not agrees(prompt, PAIR, None)
    free = "a red circle and a blue square"
    assert agrees(free, PAIR, Scene("white", (replace(RED, place="top"), replace(BLUE, place="bottom"))))
    assert not agrees(free, PAIR, Scene("white", (replace(RED, colour="green"), BLUE)))
    assert agrees("a circle and a blue square", PAIR, Scene("white", (replace(RED, colour="green"), BLUE)))
    assert not agrees("a small circle and a blue square", Scene("white", (replace(RED, size="small"), BLUE)), PAIR)


def test_scoring_an_edit():
    def edited(change: Change, seen: Scene, source: Scene = PAIR) -> bool:
        task = Task("its words are not looked at", change.apply(source), source, (change,))
        return is_right(task, Image.fromarray(render(seen)))

    green = Change("recolour", "left", {"colour": "green"})
    target = replace(PAIR, things=(replace(RED, colour="green"), BLUE))
    assert edited(green, target)
    assert not edited(green, PAIR)
    moved = replace(target, things=(target.things[0], replace(BLUE, dx=-2)))
    assert not edited(green, moved)  # three pixels: the square was to stay
    lone, added = Scene("white", (RED,)), Scene("white", (RED, replace(BLUE, dx=-2, dy=2)))
    any_size = Change("add", "right", {"shape": "square", "colour": "blue"})
    small = replace(any_size, wanted={**any_size.wanted, "size": "small"})
    assert edited(small, added, lone)  # where exactly a new thing stands is free
    pushed, larger = Scene("white", (replace(RED, dx=3), BLUE)), Scene("white", (RED, replace(BLUE, size="large")))
    assert not edited(small, pushed, lone)
    assert edited(any_size, larger, lone)
    assert not edited(small, larger, lone)
    assert edited(Change("remove", "right", {}), lone)
    assert edited(Change("background", "", {"background": "grey"}), replace(PAIR, background="grey"))
    drawn = tasks("edits", 40)
    assert all(is_right(task, Image.fromarray(render(task.wanted))) for task in drawn)
    assert not any(is_right(task, Image.fromarray(render(task.source))) for task in drawn)


def test_what_a_prompt_was_made_of_is_right():
    assert all(is_right(task, Image.fromarray(render(task.wanted))) for task in tasks("text to image", 60))


@pytest.mark.parametrize("sources", [0, 1, 2])
def test_a_training_step(sources, monkeypatch):
    """Forward and backward; attention as products, since fused kernels compute some of it twice, and no keys padded."""
    monkeypatch.setattr(joint, "SHORT", 0)
    size = replace(training.nano(), samples=3)
    with sdpa_kernel(SDPBackend.MATH):
        calls, counts = training.steps(size, sources, CPU, nullcontext)
        for name, call in calls.items():
            with FlopCounterMode(display=False) as counter:
                call()
            assert counter.get_total_flops() == counts[name], name


def test_what_is_prepared_is_a_data_set_and_comes_out_as_a_store(tmp_path):
    source, store = tmp_path / "source", tmp_path / "store"
    source.mkdir()
    prepare.write_source(source, 12)
    assert prepare_command(["prepare", str(source), "--out", str(store), "--workers", "1", "--quiet"]) == 0
    opened, shapes, examples = prepare.reads(store, 0.05)
    assert min(opened, shapes, examples) > 0
    assert StoreSet(store).count == 12
    before = prepare.checksum(store)
    (store / "left_out.jsonl").write_text("another")
    assert prepare.checksum(store) != before


@pytest.mark.slow
def test_overfitting_trains_draws_and_reads(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", minversion="2.9")  # as training asks for
    from benchmarks import overfit

    monkeypatch.setattr("sys.argv", ["overfit", "--out", str(tmp_path), "--steps", "2", "--pairs", "2"])
    overfit.main()
    assert re.search(r"2 pairs, 2 steps, .* of 2 edits are the target", capsys.readouterr().out)


def test_what_is_lost_over_pairs_is_a_difference_with_its_interval():
    pytest.importorskip("torch", minversion="2.9")  # as training asks for
    from benchmarks import look

    before = [True] * 70 + [False] * 30
    after = [True] * 60 + [False] * 10 + [True] * 4 + [False] * 26  # ten lost, four won
    loss, low, high = look.difference(before, after)
    assert loss == pytest.approx(0.06)
    # McNemar's counts in the variance of a difference of paired shares: (b + c - (b - c) ** 2 / n) / n ** 2
    half = 1.96 * ((10 + 4 - 36 / 100) / 100**2) ** 0.5
    assert (low, high) == (pytest.approx(0.06 - half), pytest.approx(0.06 + half))
    assert look.difference(before, before)[0] == 0
    assert look.share(70, 100) == "70% (60% to 78%)"
