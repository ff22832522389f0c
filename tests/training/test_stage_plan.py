"""What each preset needs at its real size, against the arithmetic of the recipe and of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.training.stage_plan import config_of, plan, shapes
from lightbagel_core.training.stages import Model, read

CONFIG = read_config(PUBLISHED)
PER_TOKEN = 28 * 3584 * 2  # bytes of a token's und states: 200.7 kB


@pytest.fixture(scope="module")
def real():
    return shapes(PUBLISHED)


def test_the_paper_takes_eight_cards_of_80_gb(real):
    first, *_, last = plans = [plan(stage, CONFIG, real, 32) for stage in read("paper")]
    assert sum(p.tokens for p in plans) == pytest.approx(32 * 16384 * 80_000, rel=0.001)
    assert 40e9 < first.bytes < 60e9
    assert first.held.weights + first.held.gradients + first.held.optimiser + first.held.ema == pytest.approx(
        135e9 / 8, rel=0.005
    )
    assert first.trained["fusion"][1] + first.trained["context"][1] == pytest.approx(1.74e9, rel=0.005)
    assert last.hours(400) == pytest.approx(last.operations.all * 15_000 / 400e12 / 32 / 3600)


def test_an_edit_that_keeps_all_has_84_mb_of_states_and_latents_of_0_8_mb(real):
    (stage,) = read("single-card-lora")
    made = plan(stage, CONFIG, real)
    assert made.portions.whole.und * PER_TOKEN == pytest.approx(84e6, rel=0.05)
    assert made.latents == 2 * 2 * 48 * 64 * 64  # two pictures of 393 kB


def test_processes_are_shared_out_evenly(real):
    stage = read("paper")[0]
    with pytest.raises(ValueError, match="shard 8 does not divide 12 processes; it can be 1, 2, 3, 4, 6, 12"):
        plan(stage, CONFIG, real, 12)
    all_of_them = replace(stage, parallel=replace(stage.parallel, shard=0))
    assert plan(all_of_them, CONFIG, real, 12).shard == 12


def test_the_model_that_is_meant(tmp_path):
    assert config_of(Model())[0].name == "LightBagel 7B+5B"
    assert config_of(Model(config="nano"))[0].name == "nano"
    assert config_of(Model(model="nano"))[0].name == "nano"
    with pytest.raises(ValueError, match="there is no checkpoint"):
        config_of(Model(model=str(tmp_path / "none")))
