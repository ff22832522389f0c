"""The dry run of every preset at its real size, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.memory.plan import MARGIN
from lightbagel_core.training.config import Model, Stage, read
from lightbagel_core.training.dry_run import config_of, describe, dry_run, fit, gb, plan, shapes

CONFIG = read_config(PUBLISHED)
PER_TOKEN = 28 * 3584 * 2  # bytes of a token's und states: 200.7 kB


@pytest.fixture(scope="module")
def real():
    return shapes(PUBLISHED)


def test_the_nano_is_a_matter_of_megabytes():
    table = dry_run(read("nano"), rate=0.05)
    assert "not counted" in table
    assert "5.9 M, 177 tensors" in table
    with pytest.raises(ValueError, match=r"stage vlm needs 98\.3 MB"):
        dry_run(read("nano"), card=0.85e9)


def test_the_paper_takes_eight_cards_of_80_gb(real):
    first, *_, last = plans = [plan(stage, CONFIG, real, 32) for stage in read("paper")]
    assert sum(p.tokens for p in plans) == pytest.approx(32 * 16384 * 80_000, rel=0.001)
    assert 40e9 < first.bytes < 60e9
    assert first.held.weights + first.held.gradients + first.held.optimiser + first.held.ema == pytest.approx(
        135e9 / 8, rel=0.005
    )
    assert first.trained["fusion"][1] + first.trained["context"][1] == pytest.approx(1.74e9, rel=0.005)
    assert last.hours(400) == pytest.approx(last.operations.all * 15_000 / 400e12 / 32 / 3600)
    table = describe(plans, 400)
    assert "hours at 400 TFLOP/s" in table
    assert "text-to-image*" in table
    assert max(map(len, table.splitlines())) <= 120
    for p in plans:
        fit(p, real, 80e9)
    with pytest.raises(ValueError, match=r"needs .* of 40.0 GB it has 39.2 GB; it would fit with batch.device_tokens="):
        fit(first, real, 40e9)


@pytest.mark.parametrize(("name", "card"), [("single-card-lora", 12e9), ("single-card-fusion", 24e9)])
def test_a_single_card_is_enough_where_it_is_promised(real, name, card):
    (stage,) = read(name)
    made = plan(stage, CONFIG, real)
    fit(made, real, card)
    assert made.reading > 0
    with pytest.raises(ValueError, match="would"):
        fit(made, real, card / 2)
    states = made.portions.mean.und * PER_TOKEN * stage.cache.samples * stage.cache.chunks
    latents = made.latents * stage.cache.samples * stage.cache.chunks
    assert made.disk["rolling cache"] == pytest.approx(states + latents)


def test_an_edit_that_keeps_all_has_84_mb_of_states_and_latents_of_0_8_mb(real):
    (stage,) = read("single-card-lora")
    made = plan(stage, CONFIG, real)
    assert made.portions.whole.und * PER_TOKEN == pytest.approx(84e6, rel=0.05)
    assert made.latents == 2 * 2 * 48 * 64 * 64  # two pictures of 393 kB


def test_the_first_thing_that_helps_is_named(real):
    (lora,) = read("single-card-lora", ["checkpointing=false"])
    with pytest.raises(ValueError, match=r"it would fit with checkpointing=true \("):
        fit(plan(lora, CONFIG, real), real, 12e9)
    whole = Stage(train=("generation", "fusion", "context"), cache=lora.cache, batch=lora.batch)
    with pytest.raises(ValueError, match=r"it would fit with parallel.shard=\d+ on \d+ devices \(") as error:
        fit(plan(whole, CONFIG, real), real, 24e9)
    shard, bytes = re.findall(r"on (\d+) devices \(([\d.]+) GB", str(error.value))[0]
    better = replace(whole, parallel=replace(whole.parallel, shard=int(shard)))
    assert plan(better, CONFIG, real, int(shard)).bytes / 1e9 == pytest.approx(float(bytes), abs=0.06)
    worse = replace(whole, parallel=replace(whole.parallel, shard=int(shard) // 2))
    assert plan(worse, CONFIG, real, int(shard) // 2).bytes > 24e9 - MARGIN
    with pytest.raises(ValueError, match="take a larger card, or train less of it"):
        fit(plan(lora, CONFIG, real), real, 3e9)


def test_processes_are_shared_out_evenly(real):
    stage = read("paper")[0]
    with pytest.raises(ValueError, match="12 processes cannot be shared out 8 to a copy"):
        plan(stage, CONFIG, real, 12)
    all_of_them = replace(stage, parallel=replace(stage.parallel, shard=0))
    assert plan(all_of_them, CONFIG, real, 12).shard == 12


def test_the_model_that_is_meant(tmp_path):
    assert config_of(Model())[0].name == "LightBagel 7B+5B"
    assert config_of(Model(config="nano"))[0].name == "nano"
    assert config_of(Model(model="nano"))[0].name == "nano"
    with pytest.raises(ValueError, match="there is no checkpoint"):
        config_of(Model(model=str(tmp_path / "none")))


def test_bytes_are_said_in_a_unit_that_fits():
    assert [gb(n) for n in (999, 5e5, 2.5e8, 3e9, 4e12)] == ["1.0 kB", "0.5 MB", "0.2 GB", "3.0 GB", "4.0 TB"]
