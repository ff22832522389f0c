"""Thoughts before drawing: their words, the branches that stand after them, and what the VLM reads, by the oracle."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import oracle
import pytest
import scripted
import torch
from scenes import noise_picture
from tiny import make_tiny, tiny_config

from lightbagel_core.config import Thinking
from lightbagel_core.language.thinking import decode, fed, has_thought, thought_of
from lightbagel_core.model.reading import Reading
from lightbagel_core.model.understanding import VitImage
from lightbagel_core.pipeline import LightBagel

SYSTEM = "Think before you draw."
PROMPT = "make it blue"
WIDTH, HEIGHT = 96, 64


@pytest.fixture(scope="module")
def thinker() -> LightBagel:
    """Random weights that say twelve letters to anything, whose config says that they were trained to think."""
    tokens = scripted.tokenizer([])
    other, config = scripted.config_of(tokens).understanding, tiny_config()
    same = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
    text = {**config.understanding["text_config"], **{name: other["text_config"][name] for name in same}}
    ids = {name: value for name, value in other.items() if name.endswith("_token_id")}
    understanding = {**config.understanding, **ids, "text_config": text}
    config = replace(config, understanding=understanding, thinking=Thinking(SYSTEM, max_new_tokens=12))
    model = make_tiny(config, tokens)
    model.und.vlm.lm_head.weight[: len(scripted.SPECIALS)] = 0  # it says no markers
    for layer in model.und.vlm.model.language_model.layers:
        for name, weight in layer.self_attn.named_parameters():
            if name.endswith("weight"):
                torch.nn.init.normal_(weight, std=0.3)  # so that what it says depends on all that it sees, and where
    return model


def scripted_thinker(text: str, **options) -> LightBagel:
    """A model that thinks a text; its VLM's layers add nothing."""
    model = scripted.scripted_model(text)
    model.config = replace(model.config, thinking=Thinking(SYSTEM, **options))
    return model


def sources(count: int) -> list:
    return [noise_picture(1, 96, 64), noise_picture(2, 64, 96)][:count]


def contents(model: LightBagel, pictures: list) -> list:
    return [content for picture in pictures for content in (model.clean(picture), model.vit(picture))]


def slowly(model: LightBagel, parts: list, count: int) -> str:
    """The words that follow a context, with everything computed anew for each: the oracle's tokens, places and mask."""
    und = model.und
    embed, language = und.vlm.get_input_embeddings(), und.vlm.model.language_model
    ids: list[int] = und.tokenizer("\n")["input_ids"]
    markers = [embed(torch.tensor(und.token_id(f"<|vision_{name}|>"))) for name in ("start", "end")]
    said = 0
    while said < count:
        tokens = oracle.list_tokens(parts, 2)
        at = tokens[-1].position[0] + 1
        tokens += [oracle.Token(len(parts), "text", True, (at + i,) * 3) for i in range(len(ids))]
        own = [i for i, token in enumerate(tokens) if token.und]
        rows = []
        for part in parts:
            if isinstance(part, list):
                rows += [embed(torch.tensor(i)) for i in part]
            else:
                rows += [markers[0], *(part.features if isinstance(part, VitImage) else []), markers[1]]
        x = torch.stack([*rows, *(embed(torch.tensor(i)) for i in ids)])[None]
        mask = torch.tensor([[0.0 if oracle.sees(tokens, q, k) else float("-inf") for k in own] for q in own])
        rotary = language.rotary_emb(x, torch.tensor([tokens[i].position for i in own]).T[:, None])
        for layer in language.layers:
            out = layer(x, attention_mask=mask[None, None], position_embeddings=rotary)
            x = out[0] if isinstance(out, tuple) else out
        ids.append(int(und.vlm.lm_head(language.norm(x))[0, -1].argmax()))
        said += 1
    return und.tokenizer.decode(ids[1:]).lstrip("\n")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_thought_is_what_the_slow_way_says(thinker, count):
    parts = [*contents(thinker, sources(count)), thinker.text(SYSTEM), thinker.text(PROMPT)]
    answer = decode(thinker.und, parts, thinker.gen.patch, 12)
    assert answer.cut
    assert answer.text == slowly(thinker, parts, 12)
    assert answer.text != slowly(thinker, [*parts[:-1], thinker.text("make it red")], 12)  # so the test can fail


@pytest.fixture
def asked(thinker, monkeypatch):
    """What a run is drawn from: the branches, and what was read of them."""
    found: dict = {}

    def draw(self, branches, noise, guidance, reading=None, **options):
        found.update(branches=branches, reading=reading, guidance=guidance, size=noise.shape[-2:])
        return []

    monkeypatch.setattr(LightBagel, "draw", draw)
    return found


@pytest.mark.parametrize("think", [True, False], ids=["think", "no think"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_each_branch_is_the_oracles(thinker, asked, count, think):
    size = {"width": WIDTH, "height": HEIGHT}
    with pytest.warns(UserWarning, match="cut at 12 tokens") if think else pytest.MonkeyPatch.context():
        if count:
            thinker.edit(sources(count), PROMPT, think=think, image_guidance=2, **size)
        else:
            thinker.generate(PROMPT, think=think, **size)
    pictures, texts = contents(thinker, sources(count)), [thinker.text(PROMPT)]
    expected = {"full": [*pictures, *texts], "negative": [*pictures, thinker.text("")], "no_image": texts}
    if think:
        system = thinker.text(SYSTEM)
        texts = [system, *texts, thinker.text(slowly(thinker, [*pictures, system, *texts], 12))]
        expected = {"full": [*pictures, *texts], "negative": pictures, "no_image": texts}
    assert set(asked["branches"]) == set(expected)
    context = thinker.encode([sample for (sample,) in asked["branches"].values()], WIDTH, HEIGHT, asked["reading"])
    x = torch.randn(3, 48, HEIGHT // 16, WIDTH // 16, generator=torch.Generator().manual_seed(0))
    found = thinker.velocity(x, 0.7, context)
    for i, name in enumerate(asked["branches"]):
        assert oracle.relative(found[i : i + 1], oracle.velocity(thinker, expected[name], x[i : i + 1], 0.7)) < 1e-4


def test_a_thoughtful_edit_has_the_last_pictures_size_and_the_models_guidance(thinker, asked, monkeypatch):
    own = replace(
        thinker.config.defaults, edit_text_guidance=4.0, image_guidance=2.0, guidance_interval=(0.7, 1.0),
        renorm="text_channel",
    )  # fmt: skip
    monkeypatch.setattr(thinker, "config", replace(thinker.config, defaults=own))
    with pytest.warns(UserWarning, match="cut at"):
        thinker.edit(sources(2), PROMPT, think=True)
    assert asked["size"] == (96 // 16, 64 // 16)
    assert asked["guidance"].branches == ("full", "negative", "no_image")
    assert (asked["guidance"].interval, asked["guidance"].renorm) == ((0.7, 1.0), "text_channel")
    thinker.edit(sources(2), PROMPT)
    assert asked["size"] == (64 // 16, 96 // 16)


def test_a_picture_is_drawn_after_nothing(thinker):
    """The negative branch of a drawing after a thought: the target alone."""
    with pytest.warns(UserWarning, match="cut at"):
        (picture,) = thinker.generate(PROMPT, think=True, steps=2, seed=1, progress=False)
    with pytest.warns(UserWarning, match="cut at"):
        (plain,) = thinker.generate(PROMPT, think=True, steps=2, seed=1, text_guidance=1, progress=False)
    assert picture.tobytes() != plain.tobytes()


def test_every_token_is_read_once(thinker):
    """But those of the texts without pictures, and of the thought as a segment: they stand at other places there."""
    sizes: list[int] = []
    layer = thinker.und.vlm.model.language_model.layers[0]
    hook = layer.register_forward_hook(lambda module, args, output: sizes.append(args[0].shape[1]))
    with pytest.warns(UserWarning, match="cut at"):
        thinker.edit(sources(2), PROMPT, think=True, image_guidance=2, steps=1, progress=False)
    hook.remove()
    pictures = contents(thinker, sources(2))
    texts = [thinker.text(SYSTEM), thinker.text(PROMPT)]
    thought = thinker.text(slowly(thinker, [*pictures, *texts], 12))
    asked = sum(map(len, texts))
    seen = sum(2 + 2 + len(vit.features) for vit in pictures[1::2])
    assert sizes[0] == seen + asked  # no target
    assert sizes[1:14] == [1] * 13  # the line break, and each token of the thought
    assert sizes[14:] == [len(thought) + asked + len(thought) + 3 * 2]  # of both branches with texts; three targets


def test_what_is_thought_is_told_and_may_be_ended():
    model = scripted_thinker("A blue circle is round and blue.")
    told: list[str] = []
    context = [model.text(SYSTEM), model.text(PROMPT)]
    answer = decode(model.und, context, 2, 100, told.append)
    assert (answer.text, answer.cut) == ("A blue circle is round and blue.", False)
    assert told[-1] == answer.text
    assert len(told) > 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(told))
    ended = decode(model.und, context, 2, 100, lambda text: "circle" not in text)
    assert (ended.text, ended.cut) == ("A blue circle", False)


def test_a_thought_that_ends_in_time_is_not_cut():
    model = scripted_thinker("\n\n é 画 blue.", max_new_tokens=4)
    assert thought_of(model.und, model.config.thinking, [], PROMPT, 2).text == " é 画 blue."


def test_what_was_read_is_kept_for_the_drawing(thinker):
    reading = Reading()
    context = [thinker.text(SYSTEM), thinker.text(PROMPT)]
    decode(thinker.und, context, 2, 3, reading=reading)
    assert len(reading.segments) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [(" ", "ended before its first word"), ("blue <|vision_start|> green", "cannot read its own thought")],
)
def test_thoughts_that_cannot_be_used_are_refused(text, message):
    model = scripted_thinker(text)
    with pytest.raises(ValueError, match=message):
        model.generate(PROMPT, think=True, progress=False)


def test_a_tokenizer_without_a_line_break_cannot_think(tiny):
    with pytest.raises(ValueError, match="has no line break"):
        decode(tiny.und, [tiny.text("a red circle")], 2, 5)


def test_what_cannot_be_asked_for_is_refused(thinker):
    with pytest.raises(ValueError, match="no place for a negative prompt"):
        thinker.generate(PROMPT, "ugly", think=True)
    with pytest.raises(ValueError, match="no place for a negative prompt"):
        thinker.edit(sources(1), PROMPT, "ugly", think=True)
    with pytest.raises(ValueError, match="use think=True"):
        thinker.generate(PROMPT, think="feed")
    with pytest.raises(ValueError, match="think must be"):
        thinker.generate(PROMPT, think="yes")
    assert not has_thought(None, True, "ugly")  # a rewritten prompt: its negative one is used
    assert has_thought(None, "feed")


def test_a_thought_may_be_fed_with_a_warning(thinker):
    pictures = contents(thinker, sources(1))
    with pytest.warns(UserWarning, match="an experiment"):
        found = fed(thinker.und, pictures, PROMPT, "it was red")
    texts = [thinker.text(PROMPT), thinker.text("it was red")]
    assert found.branches == {"full": [*pictures, *texts], "negative": pictures, "no_image": texts}


# --- weights that were not trained to think --------------------------------------------------------------------------

ANSWER = "<thinking>It should be a blue one.</thinking>\n\na round blue circle"


def test_other_weights_draw_after_the_prompt_they_come_to(asked):
    model, told = scripted.scripted_model(ANSWER), []
    model.generate(PROMPT, "ugly", think=True, on_thought=told.append)
    expected = {"full": [["a round blue circle"]], "negative": [["ugly"]], "no_image": [["a round blue circle"]]}
    assert words(model, asked["branches"]) == expected
    assert told[-1] == ANSWER
    model.edit(sources(2), PROMPT, think=True)
    assert asked["size"] == (64 // 16, 96 // 16)  # the first picture's
    assert words(model, asked["branches"])["full"] == [[None] * 4 + ["a round blue circle"]]


def test_other_weights_may_be_fed_their_thought(asked):
    model = scripted.scripted_model(ANSWER)
    with pytest.warns(UserWarning, match="an experiment"):
        model.edit(sources(1), PROMPT, think="feed")
    texts = [PROMPT, "It should be a blue one."]
    expected = {"full": [[None, None, *texts]], "negative": [[None, None]], "no_image": [texts]}
    assert words(model, asked["branches"]) == expected


def test_other_weights_that_give_no_thought_draw_nothing(asked):
    with pytest.raises(ValueError, match="gave no thought"):
        scripted.scripted_model("a round blue circle").generate(PROMPT, think=True)
    assert asked == {}


def test_the_nano_cannot_think(nano):
    with pytest.raises(ValueError, match="the nano cannot"):
        nano.generate("a red circle", think=True)


def words(model: LightBagel, branches) -> dict[str, list]:
    """The texts of branches, and None for each content of a picture."""
    return {
        name: [
            [model.und.tokenizer.decode(part[1:-1]) if isinstance(part, list) else None for part in sample]
            for sample in samples
        ]
        for name, samples in branches.items()
    }
