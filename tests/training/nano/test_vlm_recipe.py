"""The recipe of the nano's VLM."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
import torch
from tiny import make_tiny
from torch import nn

from lightbagel_core.model.forward import as_read
from lightbagel_core.training.nano import vlm_recipe
from lightbagel_core.training.nano.codes import IGNORE
from lightbagel_core.training.nano.pointing import NOUNS
from lightbagel_core.training.nano.vlm_recipe import VlmRecipe
from lightbagel_core.training.stages import Batch, Stage
from lightbagel_core.world.scenes import PLACES

STAGE = Stage(name="vlm", recipe="nano-vlm", train=("understanding",), batch=Batch(samples=12))


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
    weighted = parts["answers"] + parts["vit"] + 2 * parts["marker"] + 2 * parts["wanted"] + parts["pointed"]
    torch.testing.assert_close(value.detach(), weighted)


def test_a_name_is_heard_where_it_ends():
    """In chats: the noun or "it", or the place behind it; in drawings: the same words of the last instruction."""
    made = recipe()
    heard = made.module.heads.pointed = Heard()
    chats, drawings = made.passes(0)[0]
    words = made.und.vlm.get_input_embeddings().weight
    nouns = {made.und.token_id(word) for word in (*NOUNS, *PLACES, "it")}
    made.module.chat_loss(chats)
    points = chats.pointed != IGNORE
    assert points.any()
    assert set(chats.ids[points].tolist()) <= nouns
    assert [len(state) for state in heard.states[0]] == [int(points.sum())] * made.und.depth
    made.module.heads.wanted, made.module.heads.marker = Heard(), Heard()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            vlm_recipe, "und_states", lambda und, tokens: [und.und_embeddings([as_read(c) for c in tokens.contents])]
        )
        made.module.drawing_loss(drawings)
    (found,) = heard.states[1]
    assert len(found) == sum(label != IGNORE for labels in drawings.pointed for label in labels) > 0
    assert all(any(torch.equal(state, words[noun]) for noun in nouns) for state in found)


def test_the_language_model_is_trained_alone_and_the_vit_stays():
    made = recipe(replace(STAGE, recipe="nano-vlm-language"))
    (batch,) = made.passes(0)
    value, figures = made.loss(made.module, batch)
    value.backward()
    trained = made.trained()
    assert not any(".visual." in name or name.startswith(("heads.vit", "heads.cell")) for name in trained)
    assert {name for name, p in trained.items() if p.grad is None or not p.grad.any()} == set()
    assert all(p.grad is None for p in made.und.vlm.model.visual.parameters())
    assert figures["vit"][0] == 0


class Heard(nn.Module):
    """In place of a head: keeps what it was given; its losses are 1, 10, 100, …"""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[list[torch.Tensor]] = []

    def forward(self, states: list[torch.Tensor], codes: torch.Tensor) -> torch.Tensor:
        self.states.append(list(states))
        return torch.tensor(10.0 ** (len(self.states) - 1))


def test_an_instruction_is_heard_where_its_answer_would_begin():
    """Each alone up to its first answer, without padding, by the stock model; also where there are two pictures."""
    made = recipe()
    made.und.eval()
    heard = made.module.heads.wanted = Heard()
    chats = (made.passes(step)[0][0] for step in count())
    chat = next(chat for chat in chats if len(chat.grid) > len(chat.ids))
    patches = len(chat.pixels) // len(chat.grid)
    made.module.chat_loss(chat)
    seen = 0
    for i, (ids, labels) in enumerate(zip(chat.ids, chat.labels, strict=True)):
        asked = ids[(ids != made.und.tokenizer.pad_token_id) & (labels == IGNORE).cumprod(0).bool()][None]
        pictures, all_pictures = (int((some == made.und.token_id("<|vision_start|>")).sum()) for some in (asked, ids))
        first, seen = seen, seen + all_pictures
        alone = made.und.vlm(
            input_ids=asked,
            **made.und.image_token_types(asked),
            pixel_values=chat.pixels[first * patches : (first + pictures) * patches],
            image_grid_thw=chat.grid[first : first + pictures],
            output_hidden_states=True,
        ).hidden_states[1:]
        for state, expected in zip(heard.states[0], alone, strict=True):
            torch.testing.assert_close(state[i], expected[0, -1], rtol=1e-4, atol=1e-4)


def test_a_drawing_is_heard_at_its_instructions_end_and_at_its_targets_start(monkeypatch):
    made = recipe()
    wanted, marker = Heard(), Heard()
    made.module.heads.wanted, made.module.heads.marker, made.module.heads.pointed = wanted, marker, Heard()
    und, words = made.und, made.und.vlm.get_input_embeddings().weight
    monkeypatch.setattr(
        vlm_recipe, "und_states", lambda und, tokens: [und.und_embeddings([as_read(c) for c in tokens.contents])]
    )
    _, figures = made.module(made.passes(0)[0])
    (end,), (start,) = wanted.states[1], marker.states[0]
    assert torch.equal(end, words[und.token_id("<|im_end|>")].expand_as(end))
    assert torch.equal(start, words[und.token_id("<|vision_start|>")].expand_as(start))
    assert figures["wanted"] == 11  # of the chats, and of the drawings


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
    assert len(one.named(7)) == 2 * STAGE.batch.samples


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
