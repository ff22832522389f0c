"""The settings of a run: what is asked for wins, the rest is the model's own, and what cannot be is refused."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from lightbagel_core.config import Defaults
from lightbagel_core.sampling.guidance import Guidance
from lightbagel_core.sampling.settings import resolve

OWN = Defaults(width=96, height=64, steps=7, shift=3.0, text_guidance=2.0, edit_text_guidance=1.25, image_guidance=1.5)


def on_32(width: int, height: int) -> tuple[int, int]:
    return width // 32 * 32, height // 32 * 32


def test_what_is_not_asked_for_is_the_models_own():
    drawing, edit = resolve(OWN, {}, on_32), resolve(OWN, {}, on_32, source=(128, 64))
    assert (drawing.width, drawing.height, edit.width, edit.height) == (96, 64, 128, 64)
    assert (drawing.text_guidance, drawing.image_guidance) == (2.0, 1.0)
    assert (edit.text_guidance, edit.image_guidance) == (1.25, 1.5)
    for settings in (drawing, edit):
        assert (settings.steps, settings.shift, settings.solver, settings.seed) == (7, 3.0, "unipc", 0)


def test_what_is_asked_for_wins_and_none_asks_for_nothing():
    asked = {"width": 100, "height": None, "steps": 3, "solver": "euler", "renorm": "global", "seed": 5}
    settings = resolve(OWN, asked, on_32, source=(128, 64))
    assert (settings.width, settings.height) == (96, 64)  # fitted
    assert (settings.steps, settings.solver, settings.seed) == (3, "euler", 5)
    assert settings.guidance == Guidance(1.25, 1.5, renorm="global")
    with pytest.raises(FrozenInstanceError):
        settings.steps = 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"num_images": 0}, "at least 1"),
        ({"seed": 2**64}, "seed must lie between"),
        ({"text_guidance": float("nan")}, "must be a finite number"),
        ({"guidance_interval": (1.0, 0.0)}, "interval must satisfy"),
        ({"image_guidance": 2.0}, "only edits have it"),
    ],
)
def test_what_cannot_be_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        resolve(OWN, asked, on_32)


def test_a_model_may_have_an_interval_and_a_renorm_of_its_own():
    own = replace(OWN, guidance_interval=(0.7, 1.0), renorm="text_channel")
    asked = {"guidance_interval": None, "renorm": None}
    assert resolve(own, asked, on_32).guidance == Guidance(2.0, 1.0, (0.7, 1.0), "text_channel")
    assert resolve(own, {"guidance_interval": (0.0, 1.0), "renorm": "none"}, on_32).guidance == Guidance(2.0)


def test_settings_there_are_not_are_refused():
    with pytest.raises(TypeError, match="strength"):
        resolve(OWN, {"strength": 1.0}, on_32)


def test_settings_are_written_down():
    written = json.loads(json.dumps(resolve(OWN, {"seed": 5}, on_32).to_dict()))
    assert (written["seed"], written["steps"], written["guidance_interval"]) == (5, 7, [0.0, 1.0])
    assert resolve(OWN, {"seed": torch.Generator()}, on_32).to_dict()["seed"] is None
