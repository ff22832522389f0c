"""The loop on a toy: resumed as unbroken, stopped in order, and nothing damaged by a loss that is no number."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lightbagel_core.training.journal import FILE, read
from lightbagel_core.training.parallel import start, stop
from lightbagel_core.training.stages import Batch, Checkpoints, Ema, Optimiser, Stage
from lightbagel_core.training.trainer import CURVES, Trainer

STEPS = 12
STAGE = Stage(
    steps=STEPS,
    device="cpu",
    precision="float32",
    base="float32",
    optimiser=Optimiser(lr=0.05, warmup=2, eps=1e-8),
    ema=Ema(decay=0.9),
    batch=Batch(samples=1),
    checkpoints=Checkpoints(every=4, keep=2),
)


class Toy:
    """Two linear layers, of which one is frozen; `passes` of a step draw from (seed, step) alone."""

    units = ()

    def __init__(self, passes: int = 1) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        self.module[0].requires_grad_(False)
        self.count, self.bad, self.hook = passes, -1, lambda step: None

    def trained(self):
        return {f"toy.{name}": p for name, p in self.module.named_parameters() if p.requires_grad}

    def passes(self, step):
        self.hook(step)
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return [part * (float("nan") if step == self.bad else 1) for part in x.chunk(self.count)]

    def loss(self, module, x):
        error = (module(x) - x[:, :2]).square().sum()
        return error / 16, {"error": torch.stack([error.detach(), torch.tensor(16.0)])}

    def tokens(self, step):
        return 8

    def named(self, step):
        return [f"toy {step}"]


@pytest.fixture
def world():
    yield start(STAGE)
    stop()


def trainer(folder: Path, world, toy: Toy | None = None) -> Trainer:
    toy = toy or Toy()
    return Trainer(toy, toy.module, STAGE, world, folder)


def weights(of: Trainer) -> torch.Tensor:
    return torch.cat([x.detach().flatten() for x in (*of.trained.values(), *of.ema.state().values())])


def test_a_resumed_run_ends_where_an_unbroken_one_does_and_its_record_has_each_step_once(tmp_path, world):
    unbroken = trainer(tmp_path / "a", world)
    assert unbroken.run()
    assert not trainer(tmp_path / "b", world).run(until=6)
    resumed = trainer(tmp_path / "b", world)
    assert resumed.step == 6
    assert resumed.run()
    torch.testing.assert_close(weights(unbroken), weights(resumed), rtol=0, atol=1e-6)
    record = read(tmp_path / "b" / FILE)
    assert [line["step"] for line in record.of("step")] == list(range(1, STEPS + 1))
    last = list(record.of("step"))[-1]
    assert last["loss"] == pytest.approx(last["error"])
    assert last["lr"] == pytest.approx(0.05)
    assert (tmp_path / "b" / CURVES).read_bytes().startswith(b"\x89PNG")


def test_several_passes_are_one_step(tmp_path, world):
    one, four = trainer(tmp_path / "a", world), trainer(tmp_path / "b", world, Toy(passes=4))
    one.run(until=5)
    four.run(until=5)
    torch.testing.assert_close(weights(one), weights(four), rtol=0, atol=1e-6)


class Drawing(Toy):
    """Its module draws, as a LoRA's dropout does; notes what."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def loss(self, module, x):
        self.drawn.append(float(torch.rand(())))
        return super().loss(module, x)


def test_what_modules_draw_depends_on_the_stage_and_the_step(tmp_path, world):
    found = []
    for folder, name in (("a", "first"), ("b", "first"), ("c", "second")):
        toy = Drawing()
        Trainer(toy, toy.module, replace(STAGE, name=name), world, tmp_path / folder).run(until=3)
        found.append(toy.drawn)
    assert found[0] == found[1]
    assert len({*found[0], *found[2]}) == 6


def test_what_is_frozen_stays_bit_for_bit(tmp_path, world):
    toy = Toy()
    before = [p.clone() for p in toy.module[0].parameters()]
    trainer(tmp_path, world, toy).run()
    assert all(torch.equal(p, q) for p, q in zip(before, toy.module[0].parameters(), strict=True))


def test_a_loss_that_is_no_number_stops_with_the_batch_named_and_the_weights_as_they_were(tmp_path, world):
    good = trainer(tmp_path / "good", world)
    good.run(until=9)
    toy = Toy()
    toy.bad = 9
    stopped = trainer(tmp_path / "bad", world, toy)
    with pytest.raises(ValueError, match=r"step 9 .* nan.* toy 9"):
        stopped.run()
    assert torch.equal(weights(good), weights(stopped))
    assert stopped.checkpoints.latest() == 8


def test_sigterm_ends_in_a_checkpoint(tmp_path, world):
    toy = Toy()
    toy.hook = lambda step: step == 5 and os.kill(os.getpid(), signal.SIGTERM)
    running = trainer(tmp_path, world, toy)
    assert not running.run()
    assert running.checkpoints.latest() == 6


class Validate:
    """Notes when it is asked; the held-out loss is least after three steps."""

    def __init__(self, every: int = 3) -> None:
        self.every, self.asked = every, []

    def due(self, step, last=False):
        return step % self.every == 0

    def __call__(self, step, last=False):
        self.asked.append(step)
        return {"held_out": abs(step - 3) + 1.0}


def validating(folder: Path, world, toy: Toy | None = None) -> Trainer:
    running = trainer(folder, world, toy)
    running.validate = Validate()
    return running


def test_validation_comes_when_it_is_due_and_keeps_the_best(tmp_path, world):
    running = validating(tmp_path, world)
    running.run()
    assert running.validate.asked == [0, 3, 6, 9, 12]
    assert running.checkpoints.best() == (3, 1.0)
    assert running.checkpoints.steps() == [3, 9, 12]  # the best, and the last two
    assert [line["held_out"] for line in read(tmp_path / FILE).of("validation")] == [4.0, 1.0, 4.0, 7.0, 10.0]


@pytest.mark.slow
def test_what_is_in_the_record_is_not_validated_again_and_what_is_not_is(tmp_path, world):
    trainer(tmp_path, world).run(until=6)  # as if killed between the checkpoint and the validation
    again = validating(tmp_path, world)
    again.run(until=6)
    assert again.validate.asked == [6]
    assert again.checkpoints.best() == (6, 4.0)
    further = validating(tmp_path, world)
    further.run()
    assert further.validate.asked == [9, 12]


def test_a_kill_while_a_checkpoint_is_written_leaves_no_line_without_one(tmp_path, world, monkeypatch):
    running = validating(tmp_path, world)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(running.checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        running.run()
    assert [line["step"] for line in read(tmp_path / FILE).of("validation")] == [0, 3]
    again = validating(tmp_path, world)
    again.run(until=3)
    assert again.validate.asked == [3]  # not the one before the first step
    assert again.checkpoints.best() == (3, 1.0)


def test_the_record_and_its_picture_say_where_a_run_was_resumed(tmp_path, world, capsys):
    trainer(tmp_path, world).run(until=6)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"kind": "st')
    trainer(tmp_path, world).run()
    starts = list(read(tmp_path / FILE).of("start"))
    assert [(line["step"], line["processes"]) for line in starts] == [(0, 1), (6, 1)]
    assert "is torn" in capsys.readouterr().err


def test_what_a_run_was_asked_stands_beside_its_weights(tmp_path, world):
    running = trainer(tmp_path, world)
    running.run(until=1)
    assert running.checkpoints.note(1)["config"]["optimiser"]["lr"] == STAGE.optimiser.lr


def test_what_goes_wrong_first_is_what_is_said(tmp_path, world, monkeypatch):
    toy = Toy()
    toy.bad = 2
    running = trainer(tmp_path, world, toy)
    finished = []

    class Tracker:
        def log(self, *_):
            return ""

        def finish(self):
            finished.append(True)

    def full():
        raise ValueError("the checkpoint of step 2 could not be written")

    running.tracker = Tracker()
    monkeypatch.setattr(running.checkpoints, "wait", full)
    with pytest.raises(ValueError, match="step 2 stops the training"):
        running.run()
    assert finished
    assert read(tmp_path / FILE).lines[-1]["kind"] == "stop"
    monkeypatch.undo()
    trainer(tmp_path, world).run(until=1)  # the record is free again
