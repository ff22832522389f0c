"""Trackers take the same calls, their failures stop no training, and none needs nothing."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from lightbagel_core.training.trackers import Tracker, numbers


def fake(monkeypatch, name: str, broken: str = "") -> list:
    """A library of that name which writes down its calls; the one called `broken` fails."""
    module, calls = ModuleType(name), []

    def method(what):
        def call(*args, **options):
            if what == broken:
                raise ConnectionError("no network")
            calls.append((what, args, options))

        return call

    for what in ("init", "log", "finish"):
        setattr(module, what, method(what))
    monkeypatch.setitem(sys.modules, name, module)
    return calls


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_run_is_sent(monkeypatch, tmp_path, name):
    calls = fake(monkeypatch, name)
    tracker = Tracker(name, "lightbagel", "nano", {"seed": 1}, tmp_path)
    assert tracker.log(3, {"loss": 0.5, "kind": "step", "suites": {"nano-geneval": 0.25}, "lr": None}) == ""
    assert tracker.finish() == ""
    own = {"dir": str(tmp_path)} if name == "wandb" else {}
    assert calls == [
        ("init", (), {"project": "lightbagel", "name": "nano", "config": {"seed": 1}, **own}),
        ("log", ({"loss": 0.5, "suites/nano-geneval": 0.25},), {"step": 3}),
        ("finish", (), {}),
    ]


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_library_that_is_not_there_is_a_sentence(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"{name} cannot be imported .*: pip install {name}, or train with"):
        Tracker(name, "lightbagel", "nano", {}, tmp_path)


def test_a_tracker_that_cannot_begin_stops_the_run(monkeypatch, tmp_path):
    fake(monkeypatch, "wandb", broken="init")
    with pytest.raises(ValueError, match=r"wandb could not begin \(no network\)"):
        Tracker("wandb", "lightbagel", "nano", {}, tmp_path)


@pytest.mark.parametrize("broken", ["log", "finish"])
def test_a_tracker_that_fails_later_stops_nothing(monkeypatch, tmp_path, broken):
    fake(monkeypatch, "trackio", broken)
    tracker = Tracker("trackio", "lightbagel", "nano", {}, tmp_path)
    said = tracker.log(1, {"loss": 1.0}), tracker.finish()
    assert said[broken == "finish"] == "trackio failed (no network); the record has its figures"
    assert said[broken != "finish"] == ""


def test_none_calls_nothing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trackio", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = Tracker("none", "lightbagel", "nano", {}, tmp_path)
    assert (tracker.log(1, {"loss": 1.0}), tracker.finish()) == ("", "")


def test_only_numbers_are_sent():
    assert numbers({"a": 1, "b": True, "c": "x", "d": [1], "e": {"f": {"g": 2.0}}}) == {"a": 1, "e/f/g": 2.0}
