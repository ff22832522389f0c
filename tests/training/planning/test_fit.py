"""What fits a card, and what is said where something does not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lightbagel_core.config import PUBLISHED
from lightbagel_core.files.formats import read_config
from lightbagel_core.memory.plan import MARGIN
from lightbagel_core.training.config_file import read
from lightbagel_core.training.planning.fit import fit, less
from lightbagel_core.training.planning.stage_plan import plan, shapes
from lightbagel_core.training.stages import Cache, Stage

CONFIG = read_config(PUBLISHED)


@pytest.fixture(scope="module")
def real():
    return shapes(PUBLISHED)


def test_the_paper_fits_80_gb_and_not_40(real):
    plans = [plan(stage, CONFIG, real, 32) for stage in read("paper")]
    for p in plans:
        fit(p, real, 80e9)
    with pytest.raises(ValueError, match=r"needs .* of 40.0 GB it has 39.2 GB; it would fit with batch.device_tokens="):
        fit(plans[0], real, 40e9)


@pytest.mark.parametrize(("name", "card"), [("single-card-lora", 12e9), ("single-card-fusion", 24e9)])
def test_a_single_card_is_enough_where_it_is_promised(real, name, card):
    (stage,) = read(name)
    made = plan(stage, CONFIG, real)
    fit(made, real, card)
    assert made.reading > 0
    with pytest.raises(ValueError, match="would"):
        fit(made, real, card / 2)


def test_one_card_of_80_gb_is_enough_to_train_dit_and_fusion_stack_whole(real):
    (stage,) = read("single-card-full")
    fit(plan(stage, CONFIG, real), real, 80e9)


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
    with pytest.raises(ValueError, match="take a larger card or train less"):
        fit(plan(lora, CONFIG, real), real, 3e9)


def test_a_frozen_vlm_need_not_lie_beside_the_dit(real):
    stage = read("paper")[0]
    (away,) = [changed for way in less(stage, 2500) for name, changed in way if name == "cache.states=rolling"]
    assert plan(stage, CONFIG, real, 32).bytes - plan(away, CONFIG, real, 32).bytes > 16e9
    taught = replace(stage, train=(*stage.train, "understanding"))
    assert "cache.states=rolling" not in [name for way in less(taught, 2500) for name, _ in way]


def test_nothing_is_named_that_a_stage_would_refuse(real):
    """In float32 the frozen DiT cannot be float8."""
    exact = Stage(precision="float32", base="float32", cache=Cache("rolling"))
    with pytest.raises(ValueError, match="needs") as error:
        fit(plan(exact, CONFIG, real), real, 24e9)
    assert "float8" not in str(error.value)


def test_what_cannot_be_shared_is_never_shared_out(real):
    """Opening refuses it: what is named must be possible."""
    (fusion,) = read("single-card-fusion")
    changes = "base=bfloat16 precision=bfloat16-mixed parallel.shard="
    with pytest.raises(ValueError, match=rf"{changes}\d+ on") as error:
        fit(plan(fusion, CONFIG, real), real, 13e9)
    assert "float8" not in str(error.value)
    shares = [changed for way in less(fusion, 2500) for name, changed in way if name.startswith(changes)]
    assert shares
    assert not any(changed.unshareable for changed in shares)
    sharded = replace(fusion, parallel=replace(fusion.parallel, shard=2))
    with pytest.raises(ValueError, match=r"its own copy: set parallel\.shard = 1"):
        plan(sharded, CONFIG, real, 2)
    with pytest.raises(ValueError, match='or precision = "bfloat16-mixed"'):
        plan(replace(sharded, base="bfloat16"), CONFIG, real, 2)
    (lora,) = read("single-card-lora", ["base=bfloat16", "parallel.shard=2"])
    assert plan(lora, CONFIG, real, 2).shard == 2
