"""The recipe of the nano's VLM."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny import make_tiny

from lightbagel_core.training.config import Batch, Stage
from lightbagel_core.training.nano.vlm_recipe import VlmRecipe

STAGE = Stage(name="vlm", recipe="nano-vlm", train=("understanding",), batch=Batch(samples=4))


def recipe(stage: Stage = STAGE) -> VlmRecipe:
    model = make_tiny()
    return VlmRecipe(stage, model.config, model.und)


def test_gradients_reach_all_that_is_trained():
    made = recipe()
    (batch,) = made.passes(0)
    value, figures = made.loss(made.module, batch)
    value.backward()
    trained = made.trained()
    assert {name for name, p in trained.items() if p.grad is None or not p.grad.any()} == set()
    assert {id(p) for p in trained.values()} == {id(p) for p in made.module.parameters()}
    expected = figures["answers"] + figures["vit"] + 2 * figures["marker"] + 2 * figures["meant"]
    torch.testing.assert_close(value.detach(), expected)


def test_its_names_are_those_of_the_checkpoint_and_of_the_heads():
    made = recipe()
    parts = {name.partition(".")[0] for name in made.trained()}
    assert parts == {"understanding", "heads"}
    kept = {name.removeprefix("understanding.") for name in made.trained() if not name.startswith("heads.")}
    assert kept == set(made.und.vlm.state_dict())


def test_a_few_steps_make_the_loss_fall():
    made = recipe()
    optimiser = torch.optim.AdamW(made.trained().values(), 3e-3)
    (batch,) = made.passes(0)
    values = []
    for _ in range(6):
        value, _ = made.loss(made.module, batch)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]


def test_a_steps_lessons_depend_on_seed_and_step_alone():
    one, again = recipe(), recipe()
    one.passes(3)
    for step in (7, 0):
        ((chat, drawn),), ((chat_again, drawn_again),) = one.passes(step), again.passes(step)
        assert torch.equal(chat.ids, chat_again.ids)
        assert torch.equal(chat.pixels, chat_again.pixels)
        assert drawn.parts == drawn_again.parts
        assert torch.equal(drawn.targets, drawn_again.targets)
    other = recipe(replace(STAGE, seed=2))
    assert one.named(7) == again.named(7) != other.named(7)
    assert len(one.named(7)) == 8


def test_a_stage_makes_the_same_heads_whatever_was_drawn_before():
    heads = [recipe().module.heads.state_dict()]
    torch.randn(3)
    heads += [recipe().module.heads.state_dict(), recipe(replace(STAGE, seed=2)).module.heads.state_dict()]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert not torch.equal(heads[0]["cell.weight"], heads[2]["cell.weight"])


def test_afterwards_it_is_frozen():
    made = recipe()
    config = made.und.vlm.config
    finished = made.finish(make_tiny().config)
    assert finished == make_tiny().config
    assert made.und.vlm.config is config
    assert not made.und.training
    assert not any(p.requires_grad for p in made.und.parameters())
