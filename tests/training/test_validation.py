"""Validation is of the averaged weights, at the steps that were asked for, and leaves no trace in the training."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lightbagel_core.evaluation.suites import run as run_of_suites
from lightbagel_core.training import stages as config
from lightbagel_core.training import validation
from lightbagel_core.training.stages import Edit
from lightbagel_core.training.validation import Validation
from lightbagel_core.training.validation_pictures import draw, wishes_of

pytest.importorskip("matplotlib")
PATHS = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
PICTURES = {"prompts": ("a red circle",), "edits": (Edit("a blue star", "make the star red"),)}


class HeldOut:
    """A held-out loss that counts how often it is asked for."""

    asked = 0

    def loss(self, module) -> float:
        self.asked += 1
        return 0.25


def made(model, folder, *, held_out=None, asked=None, **options) -> Validation:
    how = config.Validation(**(asked or {"every": 10, **PICTURES}))
    return Validation(how, model, nn.Identity(), folder, "nano", held_out, **options)


@pytest.fixture
def suites(monkeypatch):
    """What the suites are asked for, instead of running them."""
    calls = []

    def run(model, folder, per_class, progress):
        assert not folder.exists(), "what a killed run left is gone"
        folder.mkdir(parents=True)
        calls.append((folder.name, per_class, progress, model.gen.dit.training, torch.is_grad_enabled()))
        scores = {"nano-geneval": {"overall": 0.5, "per prompt": 0.4}, "nano-imgedit": {"overall": 0.75}}
        return [
            SimpleNamespace(bench=name, overall={key: SimpleNamespace(value=v) for key, v in of.items()})
            for name, of in scores.items()
        ]

    monkeypatch.setattr(run_of_suites, "run_nano", run)
    return calls


def test_what_is_due_when(tiny, tmp_path):
    """Before the first step and after the last; pictures and loss every 10 steps, suites every 30."""
    asked = {"every": 10, "suites": 1, "suites_every": 30, **PICTURES}
    all_of_it = made(tiny, tmp_path, asked=asked)
    assert [step for step in range(65) if all_of_it.due(step)] == [0, 10, 20, 30, 40, 50, 60]
    assert [step for step in range(65) if all_of_it._parts(step, False)[1]] == [0, 30, 60]
    assert all_of_it._parts(7, True) == (True, True)
    at_the_end = made(tiny, tmp_path, asked={"suites": 1})
    assert [at_the_end.due(step) for step in (0, 10, 30)] == [False] * 3
    assert at_the_end._parts(7, True) == (False, True)
    nothing = made(tiny, tmp_path, asked={"every": 10})
    assert not nothing.due(10, last=True)
    assert nothing(10, last=True) == {}
    assert made(tiny, tmp_path, asked={"every": 10}, held_out=HeldOut()).due(10)
    assert not made(tiny, tmp_path, asked=PICTURES, held_out=HeldOut()).due(10, last=True), "every=0 is never"


def test_figures_are_flat_for_the_record(tiny, tmp_path, suites):
    held = HeldOut()
    asked = {"every": 10, "suites": 3, "suites_every": 20, "prompts": ("a red circle",)}
    one = made(tiny, tmp_path, asked=asked, held_out=held)
    assert one(10) == {"held_out": 0.25}
    assert one(20) == {"held_out": 0.25, "suites": {"nano-geneval": 0.5, "nano-imgedit": 0.75}}
    assert one(20)["suites"], "again, as after a kill"
    assert one(25) == {}
    assert suites == [("step-00000020", 3, False, False, False)] * 2
    assert held.asked == 3
    assert sorted(os.listdir(tmp_path / "samples")) == ["step-00000010.png", "step-00000020.png"]


@pytest.mark.slow
def test_the_suites_score_the_trained_nano_high(nano, tmp_path):
    one = Validation(config.Validation(suites=1), nano, nn.Identity(), tmp_path)
    scores = one(100, last=True)["suites"]
    assert list(scores) == ["nano-geneval", "nano-geneval-short", "nano-imgedit", "nano-multiturn", "nano-describe"]
    assert all(0 <= score <= 1 for score in scores.values())
    assert scores["nano-describe"] > 0.5
    assert (tmp_path / "suites" / "step-00000100" / "nano-geneval" / "scores.json").is_file()


def test_another_process_writes_nothing(tiny, tmp_path, suites, monkeypatch):
    asked = {"every": 10, "suites": 3, "prompts": ("a red circle",)}
    one = made(tiny, tmp_path, asked=asked, held_out=HeldOut())
    monkeypatch.setattr(validation, "place", lambda: (1, 2))
    monkeypatch.setattr(validation, "gathered", lambda drawn: drawn)
    assert one(10, last=True) == {"held_out": 0.25}
    assert suites == []
    assert os.listdir(tmp_path) == []


def test_pictures_are_of_the_averaged_weights_and_nothing_is_left(tiny, tmp_path, monkeypatch):
    """The learned context among them, of which the model keeps what the DiT makes."""
    order, seen, weight = [], [], tiny.fusion.context
    wishes = wishes_of(config.Validation(**PICTURES), tiny.text)
    before = draw(tiny, wishes)  # the model now knows what the DiT makes of the trained context
    averaged = torch.randn(weight.shape, generator=torch.Generator().manual_seed(9))

    @contextmanager
    def swapped():
        order.append("averaged")
        kept = weight.data
        weight.data = averaged
        yield
        weight.data = kept
        order.append("trained")

    @contextmanager
    def whole(module):
        order.append(type(module).__name__)
        yield
        order.append("sharded")

    def drawn_in_eval_mode(model, *args):
        assert not any(part.training for part in (*model.gen.dit.modules(), *model.fusion.modules()))
        return draw(model, *args)

    monkeypatch.setattr(validation, "draw", drawn_in_eval_mode)
    monkeypatch.setattr(validation, "write_samples", lambda *args: seen.append(args))
    tiny.gen.dit.train()
    tiny.fusion.layers[0].train()
    weight.requires_grad_(True)
    try:
        state, modes = torch.get_rng_state(), [part.training for part in tiny.gen.dit.modules()]
        made(tiny, tmp_path, swapped=swapped, whole=whole)(10)
        assert torch.equal(torch.get_rng_state(), state)
        assert [part.training for part in tiny.gen.dit.modules()] == modes
        assert tiny.fusion.layers[0].training
        assert weight.grad is None
        assert torch.is_grad_enabled()
    finally:
        tiny.gen.dit.eval()
        tiny.fusion.eval()
        weight.requires_grad_(False)
    ((path, asked, drawn, step, title),) = seen
    assert (path, len(asked), step, title) == (tmp_path / "samples" / "step-00000010.png", 2, 10, "nano")
    assert order == ["averaged", "Identity", "sharded", "trained"]
    again = draw(tiny, wishes)
    with swapped():
        tiny.weights_changed()
        expected = draw(tiny, wishes)
    tiny.weights_changed()
    for one, other, first, second in zip(drawn, expected, before, again, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
        assert not np.array_equal(np.asarray(one), np.asarray(first)), "the weights make a difference"
        assert np.array_equal(np.asarray(first), np.asarray(second)), "nothing of the averaged ones is kept"


def test_random_numbers_that_drawing_takes_are_not_the_trainings(tiny, tmp_path, monkeypatch):
    def random(model, wishes, rank, world):
        torch.rand(5)
        return [Image.new("RGB", (64, 64))] * len(wishes)

    monkeypatch.setattr(validation, "draw", random)
    state = torch.get_rng_state()
    made(tiny, tmp_path)(10)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_of_several_dtypes_draw_together(tmp_path):
    from tiny import make_tiny

    model = make_tiny()
    for block in model.gen.blocks:
        block.bfloat16()
    sheet = tmp_path / "samples" / "step-00000010.png"
    made(model, tmp_path, computing=lambda: torch.autocast("cpu", torch.bfloat16, cache_enabled=False))(10)
    with Image.open(sheet) as image:
        assert image.size[0] > 384


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prompts": ("a star",)}, "pictures are asked for, and this stage trains nothing that draws"),
        ({"edits": (Edit("a red star", "x"),)}, "pictures are asked for"),
        ({"suites": 1}, "suites are asked for, .*: validation.suites=0"),
    ],
)
def test_what_cannot_be_validated_is_refused_at_once(tmp_path, asked, said):
    with pytest.raises(ValueError, match=said):
        made(None, tmp_path, asked=asked)


def test_words_are_looked_at_before_training(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"validation.prompts\[0\] cannot be drawn: .*cat"):
        made(tiny, tmp_path, asked={"prompts": ("a red cat",)})


def test_without_matplotlib_training_does_not_begin(tiny, tmp_path, monkeypatch):
    def lacks():
        raise ValueError("training's pictures need matplotlib")

    monkeypatch.setattr(validation, "check_matplotlib", lacks)
    with pytest.raises(ValueError, match="need matplotlib"):
        made(tiny, tmp_path)
    made(tiny, tmp_path, asked={"every": 10}, held_out=HeldOut())


def test_without_scipy_no_suites_are_promised(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ValueError, match=r"the nano's suites need scipy: pip install 'lightbagel\[bench\]'"):
        made(tiny, tmp_path, asked={"suites": 1})


@pytest.mark.slow
def test_nothing_else_needs_what_only_benches_need():
    code = """
import sys
sys.modules["scipy"] = sys.modules["matplotlib"] = None
from lightbagel_core.training import curves, held_out, journal, progress, trackers, validation
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **PATHS})
    assert done.returncode == 0, done.stderr


def test_what_was_there_for_drawing_alone_is_given_up(tiny, tmp_path, monkeypatch, suites):
    order = []
    monkeypatch.setattr(validation, "draw", lambda *_: order.append("drawn") or [])
    monkeypatch.setattr(validation, "gathered", lambda drawn: drawn)
    monkeypatch.setattr(validation, "write_samples", lambda *_: order.append("written"))

    @contextmanager
    def whole(module):
        yield
        order.append("sharded")

    asked = {"every": 10, "suites": 3, **PICTURES}
    one = made(tiny, tmp_path, asked=asked, held_out=HeldOut(), whole=whole, rest=lambda: order.append("rest"))
    one(10, last=True)
    assert order == ["drawn", "written", "rest", "sharded"]
    assert len(suites) == 1
    monkeypatch.setattr(validation, "draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one(10)
    assert order[4:] == ["rest"], "also after an error"
    made(tiny, tmp_path, asked={"every": 10}, held_out=HeldOut(), rest=order.clear)(10)
    assert order, "a loss draws nothing"
