"""What would stop a run hours later is said at once."""

from __future__ import annotations

import sys

import pytest

from lightbagel_core.training.beforehand import check
from lightbagel_core.training.stages import Adapters, Lora, Optimiser, Stage, Validation

LORA = Adapters(generation=Lora(rank=2))


def test_a_library_that_only_a_later_stage_needs_is_missed_at_once(monkeypatch):
    lacking = {
        "peft": Stage(name="b", train=(), lora=LORA, output="trained"),
        "torchao.optim": Stage(name="b", optimiser=Optimiser("adamw-8bit")),
        "trackio": Stage(name="b", validation=Validation(tracker="trackio")),
        "scipy": Stage(name="b", validation=Validation(suites=1)),
        "matplotlib": Stage(name="b"),
    }
    for library, later in lacking.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(ValueError, match=f"(?i){library.split('.')[0]}.*pip install"):
                check([Stage(name="a"), later])
    check([Stage(name="a"), Stage(name="b")])


def test_adapters_that_the_next_stage_would_lose_are_refused():
    with pytest.raises(ValueError, match=r"the stage a trains adapters .* b would begin without them"):
        check([Stage(name="a", lora=LORA, train=("context",)), Stage(name="b")])


@pytest.mark.parametrize("train", [(), ("context",)])
def test_adapters_make_no_whole_model(train):
    """A model whose context was learned beside them would draw without them."""
    with pytest.raises(ValueError, match=r"adapters .* cannot be merged .* output = .trained."):
        check([Stage(train=train, lora=LORA)])
