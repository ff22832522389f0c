"""What each preset needs at its real size, against the arithmetic of the recipe and of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.training.config_file import read
from lightbagel_core.training.data.part_file import LATENTS
from lightbagel_core.training.data.sets import open_sets
from lightbagel_core.training.planning.activations import encoding, kept
from lightbagel_core.training.planning.needs import weights
from lightbagel_core.training.planning.portions import portions
from lightbagel_core.training.planning.stage_plan import config_of, plan, shapes
from lightbagel_core.training.stages import Data, DataSet, Model, Parallel, Validation

CONFIG = read_config(PUBLISHED)
PER_TOKEN = 28 * 3584 * 2  # bytes of a token's und states: 200.7 kB


@pytest.fixture(scope="module")
def real():
    return shapes(PUBLISHED)


def test_the_paper_takes_eight_cards_of_80_gb(real):
    first, *_, last = plans = [plan(stage, CONFIG, real, 32) for stage in read("paper")]
    assert sum(p.tokens for p in plans) == pytest.approx(32 * 16384 * 80_000, rel=0.001)
    assert 50e9 < first.bytes < 75e9
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


def test_a_chunk_is_written_before_the_oldest_goes(real):
    """States and latents of edits that keep all, in the dtypes of part files, of one chunk more than are kept."""
    (stage,) = read("single-card-lora", ["dropout.clean=0", "dropout.vit=0", "dropout.text=0"])
    made = plan(stage, CONFIG, real)
    edit = (2 + 363 + 66 + 2) * PER_TOKEN + 2 * 48 * 64 * 64 * LATENTS.itemsize
    assert made.disk["rolling cache"] == pytest.approx((4 + 1) * 64 * edit, rel=1e-6)


def test_held_out_examples_lie_in_files_and_their_latents_are_not_kept(real):
    """With the states of all layers, whatever is dropped in training; a VLM that is trained reads them anew."""
    edit = (2 + 363 + 66 + 2) * PER_TOKEN + 2 * 48 * 64 * 64 * LATENTS.itemsize
    (stage,) = read("single-card-lora", ["validation.held_out=10"])
    assert plan(stage, CONFIG, real).disk["held-out examples"] == 10 * edit
    live = replace(stage, cache=replace(stage.cache, states="live"))
    assert plan(live, CONFIG, real).disk["held-out examples"] == 10 * edit
    taught = replace(live, train=("understanding",))
    assert "held-out examples" not in plan(taught, CONFIG, real).disk
    assert "held-out examples" not in plan(read("single-card-lora")[0], CONFIG, real).disk
    finite = replace(stage, data=Data((DataSet(first=40),)))
    lie = [
        plan(some, CONFIG, real, found=portions(some, CONFIG, open_sets(some))).disk["latents"]
        for some in (finite, replace(finite, validation=Validation()))
    ]
    assert lie[0] == pytest.approx(lie[1] * 30 / 40, rel=1e-6)


def test_while_the_cache_is_filled_what_trains_is_away_unless_it_is_shared(real):
    """The VLM in float8 is the most that one card holds then. On several that share nothing the buckets in which DDP
    averages gradients stay.
    """
    (stage,) = read("single-card-fusion")
    alone = plan(stage, CONFIG, real)
    vlm = sum(w.bytes for w in weights(stage, real, ["understanding"]))
    assert vlm < alone.reading < vlm + 1e9
    (lora,) = read("single-card-lora")
    wide = replace(lora, base="bfloat16", parallel=Parallel(2))
    shared, whole = plan(wide, CONFIG, real, 2), plan(replace(wide, parallel=Parallel(1)), CONFIG, real, 2)
    held = shared.held
    one = plan(replace(wide, parallel=Parallel(1)), CONFIG, real)
    assert whole.reading - one.reading == whole.held.gradients > 0
    assert shared.reading - one.reading == held.frozen + held.weights + held.optimiser + held.ema


@pytest.mark.parametrize("checkpointing", [False, True])
def test_live_the_next_pass_is_read_beside_a_step(real, checkpointing):
    """By the VLM, or by the VAE, which needs more; not while the cache was filled long before. Either way the states of
    a frozen VLM are fetched layer by layer.
    """
    stage = replace(read("paper")[0], checkpointing=checkpointing)
    rolling = replace(stage, cache=replace(stage.cache, states="rolling"))
    live, rolled = (plan(s, CONFIG, real, 32) for s in (stage, rolling))
    assert encoding(CONFIG) > 1e9
    assert live.kept - rolled.kept == encoding(CONFIG)


def test_the_states_of_a_vlm_that_is_trained_are_all_on_the_device(real):
    """Each token's, of the pass of edits, which has most of them."""
    stage = replace(read("paper")[0], checkpointing=False)
    taught = replace(stage, train=(*stage.train, "understanding"))
    weighed = weights(stage, real)
    (tokens,) = (one for one in plan(stage, CONFIG, real, 32).portions.largest if one.clean)
    found, more = (kept(some, CONFIG, weighed, tokens, True, 8).inputs for some in (stage, taught))
    assert more - found == tokens.und * PER_TOKEN * 27 / 28


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
