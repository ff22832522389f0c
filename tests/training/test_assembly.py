"""A stage is put together from its model, its data and its caches; VLM and VAE are opened no longer than they must."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from PIL import Image
from runs import ROLLING, stages

from lightbagel_core.memory.offload import Residency
from lightbagel_core.training.assembly import Work, put_together
from lightbagel_core.training.looking import held_out_samples
from lightbagel_core.training.nano.vae_recipe import VaeRecipe
from lightbagel_core.training.nano.vlm_recipe import VlmRecipe
from lightbagel_core.training.parallel import start, stop


@contextmanager
def work(folder, *overrides: str, away=nullcontext, more=""):
    (stage,) = stages(folder, *overrides, more=more)
    world = start(stage)
    try:
        with ExitStack() as stack:
            yield put_together(stage, world, folder / stage.name, away, stack)
    finally:
        stop()


def losses(made: Work) -> torch.Tensor:
    module = made.opening.ready(made.recipe.module, made.recipe.units)
    return torch.stack([made.recipe.loss(module, each)[0] for each in made.recipe.passes(0)])


def test_live_and_rolling_give_samples_and_the_vlm_is_away_while_they_are_not_made(tmp_path):
    said = []

    @contextmanager
    def away():
        said.append("away")
        yield
        said.append("back")

    with work(tmp_path / "live") as made:
        assert made.opening.und is None
        assert losses(made).isfinite().all()
    with work(tmp_path / "rolling", *ROLLING, away=away) as made:
        assert losses(made).isfinite().all()
        made.recipe.passes(1)
        assert said == ["away", "back"]
        made.recipe.passes(2)  # a new chunk
        assert said == ["away", "back"] * 2


def test_a_vlm_that_is_trained_runs_beside_the_dit(tmp_path):
    with work(tmp_path, 'train=["fusion", "understanding"]') as made:
        losses(made).sum().backward()
        trained = made.recipe.trained()
        assert {name.split(".")[0] for name in trained} == {"fusion", "understanding"}
        reached = {name for name, p in trained.items() if p.grad is not None}
        assert reached == set(trained)


@pytest.mark.parametrize(
    ("recipe", "part", "kind"), [("nano-vlm", "understanding", VlmRecipe), ("nano-vae", "vae", VaeRecipe)]
)
def test_the_nanos_own_recipes(tmp_path, recipe, part, kind):
    with work(tmp_path, f"recipe={recipe}", f'train=["{part}"]') as made:
        assert isinstance(made.recipe, kind)
        assert set(made.opening.components) == {part}
        assert losses(made).isfinite().all()


def test_latents_are_those_of_all_stages_and_states_a_stages_own(tmp_path):
    """In the run's folder, or in the one that the config names."""
    rolling = (*ROLLING, "data.sets.world.first=9")
    data = '[data.sets.world]\nkind = "world"\n'
    for where, said in ((tmp_path / "run", ()), (tmp_path / "kept", (f"cache.folder={tmp_path / 'kept'}",))):
        with work(tmp_path / "run", *rolling, *said, more=data) as made:
            made.recipe.passes(0)
        assert any((where / "latents").rglob("*.safetensors"))
        assert any((where / "train" / "states").glob("chunk-*.safetensors"))
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "run" / "latents").rglob("*.safetensors")}
    with work(tmp_path / "run", *rolling, "name=later", more=data) as made:
        made.recipe.passes(0)
    now = {file: file.stat().st_mtime_ns for file in (tmp_path / "run" / "latents").rglob("*.safetensors")}
    assert {file: now[file] for file in times} == times
    assert any((tmp_path / "run" / "later" / "states").glob("chunk-*.safetensors"))


def test_a_vlm_that_stays_is_not_opened_a_second_time(tmp_path, monkeypatch):
    """Nor given up, while it reads what the steps learn from: its held-out examples are read by it too."""
    loaded = []
    load = Residency._load
    monkeypatch.setattr(Residency, "_load", lambda self, name: loaded.append((self.offload, name)) or load(self, name))
    with work(tmp_path, "validation.held_out=2", "validation.every=1") as made:
        assert made.readers is not None
        held_out_samples(made)
        losses(made)
        assert sorted(loaded) == [(None, "understanding"), (None, "vae")]
        with made.reading() as encoder:
            assert encoder.und is made.readers.und
    assert all(p.is_meta for p in made.readers.und.parameters())


def test_operations_are_those_of_all_processes(tmp_path, monkeypatch):
    (stage,) = stages(tmp_path)
    world = start(stage)
    try:
        flops = []
        for size in (1, 3):
            with ExitStack() as stack:
                flops.append(put_together(stage, replace(world, size=size), tmp_path / "train", None, stack).flops)
    finally:
        stop()
    assert flops[0] < flops[1] < 1.5 * flops[0]


def test_what_of_a_folder_is_left_out_is_said(tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(3):
        Image.new("RGB", (128, 128 * (1 + 4 * i))).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text("a red circle", "utf-8")
    more = f'[data.sets.mine]\nkind = "folder"\npath = "{data}"\n'
    with work(tmp_path / "run", *ROLLING, more=more):
        assert "lightbagel: 2 of the 3 examples of mine are left out: " in capsys.readouterr().err
