"""The recipe of the nano's VLM."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny import make_tiny
from torch import nn

from lightbagel_core.model.forward import as_read
from lightbagel_core.training.nano import vlm_recipe
from lightbagel_core.training.nano.codes import IGNORE
from lightbagel_core.training.nano.vlm_recipe import VlmRecipe
from lightbagel_core.training.stages import Batch, Stage

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
    assert all(figure[1] == 1 for figure in figures.values())
    parts = {name: figure[0] for name, figure in figures.items()}
    torch.testing.assert_close(
        value.detach(), parts["answers"] + parts["vit"] + 2 * parts["marker"] + 2 * parts["meant"]
    )


class Heard(nn.Module):
    """In place of a head: keeps what it was given; its losses are 1, 10, 100, …"""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[list[torch.Tensor]] = []

    def forward(self, states: list[torch.Tensor], codes: torch.Tensor) -> torch.Tensor:
        self.states.append(list(states))
        return torch.tensor(10.0 ** (len(self.states) - 1))


def test_an_instruction_is_heard_where_its_answer_would_begin():
    """Each alone, without padding, by the stock model."""
    made = recipe()
    made.und.eval()
    heard = made.module.heads.meant = Heard()
    ((chat, _),) = made.passes(0)
    patches = len(chat.pixels) // len(chat.ids)
    made.module.chat_loss(chat)
    for i, (ids, labels) in enumerate(zip(chat.ids, chat.labels, strict=True)):
        asked = ids[(ids != made.und.tokenizer.pad_token_id) & (labels == IGNORE)][None]
        alone = made.und.vlm(
            input_ids=asked,
            **made.und.image_token_types(asked),
            pixel_values=chat.pixels[i * patches : (i + 1) * patches],
            image_grid_thw=chat.grid[i : i + 1],
            output_hidden_states=True,
        ).hidden_states[1:]
        for state, expected in zip(heard.states[0], alone, strict=True):
            torch.testing.assert_close(state[i], expected[0, -1], rtol=1e-4, atol=1e-4)


def test_a_drawing_is_heard_at_its_instructions_end_and_at_its_targets_start(monkeypatch):
    made = recipe()
    meant, marker = Heard(), Heard()
    made.module.heads.meant, made.module.heads.marker = meant, marker
    und, words = made.und, made.und.vlm.get_input_embeddings().weight
    monkeypatch.setattr(
        vlm_recipe, "und_states", lambda und, tokens: [und.und_embeddings([as_read(c) for c in tokens.contents])]
    )
    _, figures = made.module(made.passes(0)[0])
    (end,), (start,) = meant.states[1], marker.states[0]
    assert torch.equal(end, words[und.token_id("<|im_end|>")].expand_as(end))
    assert torch.equal(start, words[und.token_id("<|vision_start|>")].expand_as(start))
    assert figures["meant"] == 11  # of the chats, and of the drawings


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
