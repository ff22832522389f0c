"""On a card one of them lies at a time: the VLM, the VAE, or what trains."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from runs import stages

from lightbagel_core.training.encoders import frozen
from lightbagel_core.training.stages import READERS

CPU = torch.device("cpu")


def test_they_come_and_go_in_turn(tmp_path, monkeypatch):
    (stage,) = stages(tmp_path)
    there = {"what trains"}

    @contextmanager
    def away():
        assert there == {"what trains"}, "VLM and VAE come afterwards"
        there.remove("what trains")
        yield
        assert held() == set(), "what trains comes when they are gone"
        there.add("what trains")

    readers = frozen(stage, CPU, away=away)
    readers.residency.offload = "parts"  # as on a card

    def held() -> set[str]:
        modules = {"understanding": readers.und.vlm, "vae": readers.vae}
        return {name for name, module in modules.items() if not next(module.parameters()).is_meta}

    need = readers.residency.need
    for name in READERS:
        for _ in range(2):
            need(name)
            assert there | held() == {name}
    need("generation", "fusion")
    assert there | held() == {"what trains"}
    need("understanding")
    readers.residency.rest()
    readers.residency.rest()
    assert there | held() == {"what trains"}


def test_what_trains_comes_back_also_after_an_error(tmp_path, monkeypatch):
    (stage,) = stages(tmp_path)
    said = []

    @contextmanager
    def away():
        said.append("away")
        yield
        said.append("back")

    readers = frozen(stage, CPU, away=away)

    def fails(component):
        raise ValueError("the file is gone")

    monkeypatch.setattr(readers.residency, "_load", fails)
    with pytest.raises(ValueError, match="is gone"):
        readers.residency.need("vae")
    readers.residency.rest()
    assert said == ["away", "back"]
