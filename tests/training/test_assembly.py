"""A stage is put together from its model, its data and its caches; VLM and VAE are opened no longer than they must."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
import torch
from runs import ROLLING, stages

from lightbagel_core.training.assembly import Work, put_together
from lightbagel_core.training.nano.vae_recipe import VaeRecipe
from lightbagel_core.training.nano.vlm_recipe import VlmRecipe
from lightbagel_core.training.parallel import start, stop


@contextmanager
def work(folder, *overrides: str, away=None):
    (stage,) = stages(folder, *overrides)
    world = start(stage)
    try:
        with ExitStack() as stack:
            yield put_together(stage, world, folder / "cache", away, stack)
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
