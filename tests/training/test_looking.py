"""A stage is looked at with the live model and with examples it never learns from."""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import ROLLING, stages
from torch import nn

from lightbagel_core.memory.offload import Residency
from lightbagel_core.model.forward import EncodedSegment
from lightbagel_core.training import looking
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


@pytest.mark.slow
@pytest.mark.parametrize("cache", [(), ROLLING])
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
            work = put_together(stage, world, tmp_path / "train", None, stack)
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
            work = put_together(stage, world, tmp_path / "train", None, stack)
            with pytest.raises(ValueError, match="the stage train trains nothing that draws"):
                validation(work, work.recipe.module, None, [], tmp_path)
    finally:
        stop()


@contextmanager
def opened(folder, *overrides: str):
    (stage,) = stages(folder, *overrides, more=LOOKED_AT)
    world = start(stage)
    try:
        with ExitStack() as stack:
            yield put_together(stage, world, folder / "train", nullcontext, stack)
    finally:
        stop()


@pytest.mark.parametrize("cache", [(), ROLLING])
def test_held_out_samples_lie_in_a_file_and_are_read_once(tmp_path, cache, monkeypatch):
    with opened(tmp_path, *cache) as work:
        first = held_out_samples(work)
    (file,) = (tmp_path / "train" / "held_out").iterdir()
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(file) in maps.read_text("utf-8")
    with opened(tmp_path, *cache) as work:  # a run that goes on
        work.reading = None
        again = held_out_samples(work)
    assert len(again) == len(first) == 4
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.target, other.target)
        assert all(torch.equal(a.states, b.states) for a, b in zip(one.contents, other.contents, strict=True))


def test_what_a_vlm_that_is_trained_will_read_needs_the_vae_alone(tmp_path, monkeypatch):
    loaded = []
    load = Residency._load
    monkeypatch.setattr(Residency, "_load", lambda self, name: loaded.append(name) or load(self, name))
    with opened(tmp_path, 'train=["fusion", "understanding"]') as work:
        samples = held_out_samples(work)
        assert loaded == ["vae"]
        assert not any(isinstance(content, EncodedSegment) for sample in samples for content in sample.contents)
        made = validation(
            work, nn.Identity(), SimpleNamespace(ema=SimpleNamespace(swapped=nullcontext)), samples, tmp_path
        )
        assert (made.model.und, made.model.vae) == (work.opening.und, work.opening.vae)
        assert made.model.residency is None


@pytest.mark.slow
def test_on_a_small_card_what_trains_makes_room_for_drawing(tmp_path, monkeypatch):
    """VLM, VAE and what trains are on it one at a time, also while pictures are drawn, and the first two leave."""
    there = []

    @contextmanager
    def aside(module, optimiser, averages, device):
        there.append("aside")
        yield
        there.append("back")

    monkeypatch.setattr(looking, "aside", aside)
    with opened(tmp_path, *ROLLING) as work:
        module = work.opening.ready(work.recipe.module, work.recipe.units)
        trainer = SimpleNamespace(ema=SimpleNamespace(state=dict, swapped=nullcontext), optimiser=None)
        made = validation(work, module, trainer, [], tmp_path)
        made.model.residency.offload = "parts"  # as on a card
        load = made.model.residency._load
        monkeypatch.setattr(made.model.residency, "_load", lambda name: there.append(name) or load(name))
        made(2)
        parts = [*made.model.und.parameters(), *made.model.vae.parameters()]
        assert all(p.is_meta for p in parts)
    drawn = ["understanding", "back", "aside", "vae"]  # the edit's source is read by the VAE that is there already
    assert there == ["aside", *drawn, *drawn, "back"]
