"""A stage is looked at with the live model and with examples it never learns from."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from runs import ROLLING, stages

from lightbagel_core.training.assembly import put_together
from lightbagel_core.training.looking import held_out_samples, validation
from lightbagel_core.training.parallel import start, stop
from lightbagel_core.training.running import run

LOOKED_AT = """
[validation]
every = 2
held_out = 4
prompts = ["a green square"]
[[validation.edits]]
source = "a red circle"
instruction = "make the circle blue"
"""


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "train" / "record.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("cache", [pytest.param((), marks=pytest.mark.slow), ROLLING])
def test_before_the_first_step_on_the_way_and_at_the_end(tmp_path, cache):
    asked = stages(tmp_path, "steps=3", *cache, more=LOOKED_AT)
    assert run(asked, tmp_path / "out")
    found = [line for line in lines(tmp_path / "out") if line["kind"] == "validation"]
    assert [line["step"] for line in found] == [0, 2, 3]
    assert len({line["held_out"] for line in found}) == 3
    sheets = sorted(file.name for file in (tmp_path / "out" / "train" / "samples").iterdir())
    assert sheets == ["step-00000000.png", "step-00000002.png", "step-00000003.png"]


def test_held_out_examples_are_whole_and_not_trained_on(tmp_path):
    (stage,) = stages(tmp_path, more=LOOKED_AT)
    world = start(stage)
    try:
        with ExitStack() as stack:
            work = put_together(stage, world, tmp_path / "cache", None, stack)
            samples = held_out_samples(work)
    finally:
        stop()
    assert len(samples) == 4
    for sample, index in zip(samples, range(4), strict=True):
        example = work.held_out[0][index]
        assert len(sample.contents) == 2 + 2 * len(example.sources)  # a text, the target; of a source both kinds


def test_a_stage_that_draws_nothing_cannot_be_asked_for_pictures(tmp_path):
    (stage,) = stages(tmp_path, "recipe=nano-vae", 'train=["vae"]', "validation.held_out=0", more=LOOKED_AT)
    world = start(stage)
    try:
        with ExitStack() as stack:
            work = put_together(stage, world, tmp_path / "cache", None, stack)
            with pytest.raises(ValueError, match="the stage train trains nothing that draws"):
                validation(work, work.recipe.module, None, [], tmp_path)
    finally:
        stop()
