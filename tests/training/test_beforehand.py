"""What would stop a run hours later is said at once."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from lightbagel_core.config import NANO
from lightbagel_core.training.beforehand import check
from lightbagel_core.training.stages import Adapters, Data, DataSet, Lora, Model, Optimiser, Stage, Validation

LORA = Adapters(generation=Lora(rank=2))


def test_a_library_that_only_a_later_stage_needs_is_missed_at_once(monkeypatch):
    lacking = {
        "peft": Stage(name="b", train=(), lora=LORA, output="trained"),
        "torchao.optim": Stage(name="b", optimiser=Optimiser("adamw-8bit")),
        "trackio": Stage(name="b", validation=Validation(tracker="trackio")),
        "scipy": Stage(name="b", validation=Validation(suites=1)),
        "matplotlib": Stage(name="b"),
        "pyarrow": Stage(name="b", data=Data((DataSet("store", path="x"),))),
    }
    for library, later in lacking.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(ValueError, match=f"(?i){library.split('.')[0]}.*pip install"):
                check([Stage(name="a"), later])
    check([Stage(name="a"), Stage(name="b")])


def test_a_lora_that_an_earlier_stage_has_merged_is_not_gone_on_from_again():
    begun = Adapters(generation=Lora(file="look.safetensors"))
    first = Stage(name="a", lora=begun, train=("context",))
    with pytest.raises(ValueError, match=r"b would go on from look.safetensors as a does.*stages.a.lora.generation.fi"):
        check([first, Stage(name="b", lora=begun, train=("context",))])
    check([first, Stage(name="b", lora=LORA, train=("context",))])


def test_a_component_alone_is_no_whole_model_and_that_is_said_before_it_is_trained():
    fresh = Model(config=str(NANO / "config.json"), fresh=("understanding", "generation", "fusion", "vae"))
    alone = Stage(name="vae", recipe="nano-vae", train=("vae",), model=fresh)
    with pytest.raises(ValueError, match=r'a whole model is to come out.*lacks the understanding.*output = "trained"'):
        check([alone])
    check([replace(alone, output="trained")])
    check([replace(alone, model=replace(fresh, model=str(NANO)))])
    reader = Stage(name="vlm", recipe="nano-vlm", train=("understanding",), model=fresh)
    drawing = Stage(name="dit", train=("generation", "fusion", "context"), model=fresh)
    check([reader, alone, drawing])
    with pytest.raises(ValueError, match="lacks the generation"):
        check([reader, alone])
