"""VLM and VAE are there only as long as they are needed; what they give is stamped with all it depends on."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, groupby

import torch
from runs import stages

from lightbagel_core.training import encoders as subject
from lightbagel_core.training.encoders import encoders, kept_latents, stamp
from lightbagel_core.training.loading import find
from lightbagel_core.training.stages import Cache, Dropout, Model

CPU = torch.device("cpu")


def test_their_weights_are_given_up_in_the_end(tmp_path, monkeypatch):
    (stage,) = stages(tmp_path)
    with encoders(stage, CPU, tmp_path / "latents") as encoder:
        encoder.need("vae")
        encoder.need("understanding")
        weights = [*encoder.und.vlm.parameters(), *encoder.vae.parameters()]
        assert weights
        assert not any(w.is_meta or w.requires_grad for w in weights)
        assert {w.dtype for w in weights} == {torch.float32}
    assert all(w.is_meta for w in (*encoder.und.vlm.parameters(), *encoder.vae.parameters()))


def test_a_stamp_changes_with_what_the_readings_depend_on(tmp_path):
    (stage,) = stages(tmp_path)
    config = find(stage.model).config
    first = stamp(stage, config)
    assert stamp(stage, config) == first
    others = [
        replace(stage, seed=2),
        replace(stage, dropout=Dropout(vit=0.4)),
        replace(stage, cache=Cache(samples=3)),
        replace(stage, base="bfloat16", precision="bfloat16-mixed"),
        replace(stage, name="later"),
    ]
    stamps = {stamp(other, config) for other in others}
    assert len(stamps) == len(others)
    assert first not in stamps
    assert stamp(replace(stage, steps=9), config) == first
    vae = stamp(stage, config, ["vae"])
    assert {stamp(other, config, ["vae"]) for other in others} == {vae}, "latents are those of all stages"
    assert vae != first


def test_latents_are_kept_where_they_are_asked_for(tmp_path):
    (stage,) = stages(tmp_path)
    config = find(stage.model).config
    kept = kept_latents(stage, config, tmp_path)
    assert kept is not None
    assert kept.folder == tmp_path
    assert kept_latents(replace(stage, cache=Cache(latents=False)), config, tmp_path) is None


def test_only_their_files_need_to_be_there(tmp_path, monkeypatch):
    (stage,) = stages(tmp_path)
    asked = []
    whole = subject.find
    monkeypatch.setattr(subject, "find", lambda model, need: asked.append(set(need)) or whole(model, need))
    stage = replace(stage, model=Model(model="nano", fresh=("fusion",)), cache=Cache(latents=False))
    with encoders(stage, CPU, tmp_path):
        pass
    assert asked == [{"understanding", "vae"}]


def test_on_a_card_one_of_the_two_is_there_at_a_time(tmp_path, monkeypatch):
    """The examples are read as where both are: the VAE first, then the VLM."""
    from lightbagel_core.training.data.samples import plan
    from lightbagel_core.training.data.sets import open_sets
    from lightbagel_core.training.seeds import Stream, generator

    (stage,) = stages(tmp_path)
    examples = [plan(open_sets(stage)[0][i], Dropout(), generator(1, Stream.DROPOUT, i)) for i in range(3)]
    with encoders(stage, CPU, tmp_path / "latents") as encoder:
        both = encoder.read(examples)
    there = []
    whole = subject.Residency

    def parts(opened, modules, precision, device, offload):
        made = whole(opened, modules, precision, device, "parts")
        need = made.need
        made.need = lambda *names: (need(*names), there.append(set(made.loaded)))[0]
        return made

    monkeypatch.setattr(subject, "Residency", parts)
    with encoders(stage, CPU, tmp_path / "latents") as encoder:
        apart = encoder.read(examples)
    assert [names for names, _ in groupby(there)] == [{"vae"}, {"understanding"}]
    for one, other in zip(chain(*both), chain(*apart), strict=True):
        assert torch.equal(one.target, other.target)
        assert all(torch.equal(a.states, b.states) for a, b in zip(one.contents, other.contents, strict=True))
