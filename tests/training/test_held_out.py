"""The held-out loss against its formula, on any number of processes, and without a trace in what trains."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from lightbagel_core.model.forward import EncodedSegment
from lightbagel_core.model.sequence import ImageSegment
from lightbagel_core.training import held_out
from lightbagel_core.training.data.samples import Sample
from lightbagel_core.training.held_out import HeldOut, evaluating, quantiles
from lightbagel_core.training.loss import Drawing

SIZES = ((2, 3), (2, 2), (4, 3), (2, 3), (1, 2))  # token rows and columns
TOKENS = sum(rows * cols for rows, cols in SIZES)


def samples(depth: int = 2) -> list[Sample]:
    generator, made = torch.Generator().manual_seed(3), []
    for rows, cols in SIZES:
        markers = EncodedSegment(torch.randn(depth, 2, 64, generator=generator))
        target = torch.randn(48, 2 * rows, 2 * cols, generator=generator)
        made.append(Sample((ImageSegment("noised", rows, cols),), [markers], target, False))
    return made


class Known(nn.Module):
    """Answers each sample's time for each of its tokens, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout()
        self.asked: list = []

    def forward(self, batch):
        assert not self.training
        assert not self.dropout.training
        assert not torch.is_grad_enabled()
        self.asked.append(batch)
        tokens = [s.target[0].numel() // 4 for s in batch.samples]
        return batch.t * torch.tensor(tokens)


def held(most: int = 14, **options) -> HeldOut:
    return HeldOut(samples(), patch=2, shift=4.0, device_tokens=most, **options)


def test_times_are_evenly_spread_quantiles_of_the_training_time():
    module = Known()
    loss = held(times=3).loss(module)
    q = np.sort(quantiles(5, 3).flatten().numpy())
    np.testing.assert_allclose(q, (np.arange(15) + 0.5) / 15)
    assert ((quantiles(5, 3).diff() - 1 / 3).abs() < 1e-12).all(), "each sample is seen at all parts of the run"
    even = 1 / (1 + np.exp(-norm.ppf(quantiles(5, 3).numpy())))
    t = 4 * even / (1 + 3 * even)
    tokens = np.array([rows * cols for rows, cols in SIZES])
    assert loss == pytest.approx(float((t * tokens[:, None]).sum() / (3 * TOKENS)), rel=1e-6)


def test_passes_hold_no_more_than_a_device_does():
    module = Known()
    held(most=14).loss(module)
    lengths = [sum(s.tokens for s in batch.samples) for batch in module.asked]
    assert lengths == [8 + 6] * 4 + [14] * 4 + [8 + 4] * 4
    held(most=1).loss(module)
    assert [len(batch.samples) for batch in module.asked[12:]] == [1] * 20


def test_noise_is_the_samples_own_and_always_the_same():
    one, other = Known(), Known()
    held(most=14).loss(one)
    held(most=100).loss(other)
    by_time = [
        {float(t): n for b in module.asked for t, n in zip(b.t, b.noise, strict=True)} for module in (one, other)
    ]
    assert len(by_time[0]) == 20
    assert all(torch.equal(noise, by_time[1][t]) for t, noise in by_time[0].items())
    first, second = (by_time[0][float(t)] for t in one.asked[0].t[:1].tolist() + one.asked[1].t[:1].tolist())
    assert first.shape == second.shape
    assert not torch.equal(first, second), "of one sample at two times"


@pytest.mark.parametrize("world", [2, 3, 5, 40])
def test_any_number_of_processes_gives_the_same_number(tiny, world):
    drawing = Drawing(tiny.gen, tiny.fusion, tiny.attention)
    measured = held()
    alone = measured.errors(drawing, 0, 1)
    shared, calls = torch.zeros_like(alone), set()
    for rank in range(world):
        module = Known()
        measured.errors(module, rank, world)
        calls.add(len(module.asked))
        if world < 5:
            shared += measured.errors(drawing, rank, world)
    assert len(calls) == 1, "else they would wait for each other"
    assert torch.equal(shared, alone) or world >= 5


TWO = """
import json, sys
sys.path[:0] = json.loads(sys.argv[4])
import torch
import torch.distributed as dist
from PIL import Image
from test_held_out import held
from tiny import make_tiny
from lightbagel_core.training.loss import Drawing
from lightbagel_core.training.validation_pictures import gathered

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
tiny = make_tiny()
loss = held().loss(Drawing(tiny.gen, tiny.fusion, tiny.attention))
pictures = gathered([None, Image.new("RGB", (3, 2), "red")][:: 1 if rank else -1])
with open(f"{sys.argv[3]}.{rank}", "w", encoding="utf-8") as file:
    json.dump([loss, [picture.size for picture in pictures], [picture.getpixel((2, 1)) for picture in pictures]], file)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_that_speak_to_each_other_say_the_same(tiny, tmp_path):
    command = [str(tmp_path / "group"), str(tmp_path / "said"), json.dumps([path for path in sys.path if path])]
    both = [subprocess.Popen([sys.executable, "-c", TWO, str(rank), *command]) for rank in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    one, other = (json.loads((tmp_path / f"said.{rank}").read_text("utf-8")) for rank in range(2))
    loss = held().loss(Drawing(tiny.gen, tiny.fusion, tiny.attention))
    assert one == other == [pytest.approx(loss, rel=1e-6), [[3, 2]] * 2, [[255, 0, 0]] * 2]


def test_it_is_the_training_loss_on_the_real_model_and_leaves_no_trace(tiny):
    drawing = Drawing(tiny.gen, tiny.fusion, tiny.attention)
    drawing.train()
    tiny.fusion.layers[0].eval()
    before, modes = torch.get_rng_state(), {name: part.training for name, part in drawing.named_modules()}
    measured = held(most=100)
    loss = measured.loss(drawing)
    assert loss == measured.loss(drawing)
    assert torch.equal(torch.get_rng_state(), before)
    assert {name: part.training for name, part in drawing.named_modules()} == modes
    assert True in modes.values()
    drawing.eval()
    with torch.no_grad():
        sums = [drawing(part).sum().item() for part in held(most=1).passes]
    assert loss == pytest.approx(sum(sums) / (4 * TOKENS), rel=1e-5)


def test_modes_come_back_also_after_an_error():
    module = nn.Sequential(nn.Dropout(), nn.Dropout().eval()).train()
    module[1].eval()
    with pytest.raises(KeyError), evaluating(module):
        raise KeyError
    assert [part.training for part in module.modules()] == [True, True, False]


def test_computing_is_asked_for_each_pass():
    asked = []

    class Computing:
        def __enter__(self):
            asked.append(True)

        def __exit__(self, *_):
            pass

    held(computing=Computing).loss(Known())
    assert len(asked) == 12


def test_no_samples_are_no_loss():
    with pytest.raises(ValueError, match=r"needs samples: set validation\.held_out"):
        HeldOut([], 2, 4.0, 100)


def test_noise_is_drawn_for_a_process_own_passes_when_they_are_reached(monkeypatch):
    drawn = []
    true = held_out.noised
    monkeypatch.setattr(
        held_out, "noised", lambda samples, keys, shift: drawn.append(keys) or true(samples, keys, shift)
    )
    measured = held(most=14)
    assert drawn == []
    measured.errors(Known(), rank=1, world=3)
    assert len(drawn) == 4  # of 12 passes
