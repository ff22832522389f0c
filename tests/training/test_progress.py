"""The bar's figures by a clock of our own, and the rate of a device that counts what it is asked."""

from __future__ import annotations

import io
import time
from contextlib import suppress

import pytest
import torch

from lightbagel_core.training import progress
from lightbagel_core.training.progress import SIDES, WINDOW, Progress, device_rate


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_figures_are_those_of_the_step_and_the_bar_shows_means(clock):
    file = io.StringIO()
    with Progress(steps=100, done=10, rate=2e9, file=file) as bar:
        clock[0] += 2
        assert bar.update(0.5, 1000, 1e9) == {"tokens_per_second": 500, "device_share": 0.25}
        clock[0] += 1
        figures = bar.update(0.3, 2000, 1e9, memory=17.24)
        assert figures == {"tokens_per_second": 2000, "device_share": 0.5, "device_gb": 17.24}
        bar._bar.refresh()
        shown = file.getvalue().rpartition("\r")[2]
    for text in ("12/100", "loss=0.4000", "tokens/s=1,000", "device=33%", "memory=17.2 GB"):
        assert text in shown


def test_the_bar_forgets_old_steps(clock):
    file = io.StringIO()
    with Progress(steps=1000, file=file) as bar:
        for step in range(2 * WINDOW):
            clock[0] += 1
            assert "device_share" not in bar.update(9.0 if step < WINDOW else 1.0, 10, 1e9), "no rate is known"
        bar._bar.refresh()
    assert "loss=1.0000" in file.getvalue().rpartition("loss")[1] + file.getvalue().rpartition("loss")[2]


def test_a_pause_is_no_part_of_a_step(clock):
    with Progress(steps=10, shown=False) as bar:
        clock[0] += 1
        with bar.paused():
            clock[0] += 100
        clock[0] += 1
        assert bar.update(1.0, 10)["tokens_per_second"] == 5
        with suppress(KeyError), bar.paused():
            clock[0] += 100
            raise KeyError
        clock[0] += 1
        assert bar.update(1.0, 10)["tokens_per_second"] == 10


def test_nothing_is_shown_where_nothing_shall_be(capfd):
    with Progress(steps=10, shown=False) as bar:
        bar.update(1.0, 10)
    assert capfd.readouterr() == ("", "")


def test_a_line_goes_above_the_bar(capfd):
    with Progress(steps=10, shown=False) as bar:
        bar.say("saved")
    assert capfd.readouterr() == ("", "saved\n")


@pytest.mark.parametrize("slower", [1, 3])
def test_the_rate_is_that_of_the_best_product(monkeypatch, slower):
    """A device of 1 GFLOP/s with half a millisecond to begin a product, which counts less in larger ones; one that has
    too little cache for these.
    """
    asked = []

    def seconds(a, b):
        asked.append(len(a))
        return 0.0005 + 2 * len(a) ** 3 / 1e9 * (slower if len(a) > SIDES[0] else 1)

    monkeypatch.setattr(progress, "_seconds", seconds)
    rate = device_rate(torch.device("cpu"), torch.float32)
    assert rate == pytest.approx(1e9, rel=0.02 if slower == 1 else 0.05)
    assert set(asked) == set(SIDES[:2]), "a second side of 512 takes 0.27 s: no larger one is asked for"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_device_is_measured_within_a_second_and_by_the_way(dtype):
    torch.manual_seed(5)
    before, started = torch.get_rng_state(), time.monotonic()
    with torch.autocast("cpu", torch.bfloat16):
        rate = device_rate(torch.device("cpu"), dtype)
    assert time.monotonic() - started < 3, "a second, on a machine that does nothing else"
    assert 1e7 < rate < 1e16
    assert torch.equal(torch.get_rng_state(), before)
