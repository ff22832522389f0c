"""Before its first step a stage has the loss of the weights that it opened, as others compute it from the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace

import oracle
import pytest
import torch
from diffusers import WanTransformer3DModel
from runs import stages
from torch import Tensor

from lightbagel_core.training.assembly import put_together
from lightbagel_core.training.looking import held_out_samples, validation
from lightbagel_core.training.parallel import start, stop


@contextmanager
def opened(folder, *overrides: str):
    """(What the stage works on, its module with all weights, what measures its held-out loss)."""
    (stage,) = stages(folder, "validation.held_out=4", *overrides)
    world = start(stage)
    try:
        with ExitStack() as stack:
            work = put_together(stage, world, folder / "train", nullcontext, stack)
            samples = held_out_samples(work)
            module = work.opening.ready(work.recipe.module, work.recipe.units)
            trainer = SimpleNamespace(ema=SimpleNamespace(swapped=nullcontext))
            yield work, module, validation(work, module, trainer, samples, folder).held_out
    finally:
        stop()


def measured(work, held, model) -> Iterator[tuple]:
    """Of each sample at each of its times (the example, its target's latents, the time, the noise)."""
    examples = [part[index] for part in work.held_out for index in range(part.count)]
    targets = [model.clean(example.turns[0].target).latents for example in examples]
    for (first, end, _), batch in zip(held.parts, held.passes, strict=True):
        for i, t, noise in zip(range(first, end), batch.t.tolist(), batch.noise, strict=True):
            yield examples[i], targets[i], t, noise


def error(velocity: Tensor, target: Tensor, noise: Tensor) -> float:
    return float((velocity - (noise - target)).square().mean())


@pytest.mark.parametrize(
    ("train", "near"),
    [('["fusion"]', 1e-3), ('["fusion", "understanding"]', 1e-5)],
    ids=["states kept in bfloat16", "a VLM that runs beside"],
)
@torch.no_grad()
def test_opened_weights_have_the_loss_of_the_slow_model(nano, tmp_path, train, near):
    with opened(tmp_path, "model.fresh=[]", f"train={train}") as (work, module, held):
        loss, errors, edits = held.loss(module), [], 0
        for example, target, t, noise in measured(work, held, nano):
            parts = [part for source in example.sources for part in (nano.clean(source), nano.vit(source))]
            parts.append(nano.text(example.turns[0].text))
            drawn = oracle.velocity(nano, parts, ((1 - t) * target + t * noise)[None], t)
            errors.append(error(drawn[0], target, noise))
            edits += example.edit
    assert len(errors) == 16
    assert 0 < edits < 16
    assert loss == pytest.approx(sum(errors) / len(errors), rel=near)


@torch.no_grad()
def test_an_untrained_fusion_stack_has_the_loss_of_the_stock_wan(nano, tmp_path):
    stock = WanTransformer3DModel.from_config(dict(nano.gen.dit.config)).eval()
    stock.load_state_dict(nano.gen.dit.state_dict())
    with opened(tmp_path) as (work, module, held):
        loss, errors = held.loss(module), []
        context = work.opening.fusion.context[None]
        for _, target, t, noise in measured(work, held, nano):
            x = ((1 - t) * target + t * noise)[None, :, None]
            (drawn,) = stock(x, torch.tensor([1000 * t]), context, return_dict=False)
            errors.append(error(drawn[0, :, 0], target, noise))
    assert loss == pytest.approx(sum(errors) / len(errors), rel=1e-5)
