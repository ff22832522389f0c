"""Rewriting: what the VLM is asked, how its answer is read, and the whole of it by the stock classes."""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
import torch
from scenes import noise_picture, one_thing
from scripted import scripted_understanding

from lightbagel_core.language.rewriting import LENGTH, Rewritten, read_rewritten, rewrite, talk_of
from lightbagel_core.language.system_prompts import EDIT_EN, GENERATE_EN, GENERATE_ZH, THINK_EN
from lightbagel_core.model import chat
from lightbagel_core.model.chat import Answer

PICTURES = [one_thing("circle", "red"), one_thing("star", "blue")]


def test_the_vlm_is_asked_in_its_chat():
    assert talk_of("a red circle").messages == [("system", [GENERATE_EN]), ("user", ["a red circle"])]
    assert talk_of("一个红色的圆").messages[0] == ("system", [GENERATE_ZH])
    one, two = PICTURES
    assert talk_of("make it blue", [one], "edit").messages == [("system", [EDIT_EN]), ("user", [one, "make it blue"])]
    several = talk_of("put it there", [one, two], "edit", thinking=True).messages
    assert several[0] == ("system", [f"{EDIT_EN}\n\n{THINK_EN}"])
    assert several[1] == ("user", ["Picture 1: ", one, "Picture 2: ", two, "put it there"])
    assert talk_of("放在那里", [one, two], "edit").messages[1][1][:3] == ["图1：", one, "图2："]
    assert talk_of("a red circle", system_prompt="Be brief.").messages[0] == ("system", ["Be brief."])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prompt": " "}, "nothing to rewrite"),
        ({"prompt": "make it blue", "task": "edit"}, "give at least one"),
        ({"prompt": "a cat", "task": "draw"}, "rewritten for generate or edit, not for 'draw'"),
        ({"prompt": "a cat", "system_prompt": ""}, "the system prompt is empty"),
    ],
)
def test_what_is_not_asked(asked, message):
    with pytest.raises(ValueError, match=message):
        talk_of(**asked)


@pytest.mark.parametrize(
    ("text", "thinking", "prompt", "thought"),
    [
        ("a red circle", False, "a red circle", ""),
        ("\n a red circle\n\nin two parts ", False, "a red circle\n\nin two parts", ""),
        ("<thinking>round?</thinking>\n\na red circle", True, "a red circle", "round?"),
        ("<think>\nround?\n</think>a red circle", True, "a red circle", "round?"),
        ("<THINKING>round?</Thinking> a red circle", True, "a red circle", "round?"),
        ("<think></think>a red circle", True, "a red circle", ""),
        ("<think>a</think><think>b</think>a red circle", True, "a red circle", "a\n\nb"),
        ("round?</think> a red circle", True, "a red circle", "round?"),  # a template may have begun the thought
        ("<think>round?</think> a red circle", False, "a red circle", ""),
        ("round?</think> a red circle", False, "a red circle", ""),
        ('a sign that says "think"', False, 'a sign that says "think"', ""),
    ],
)
def test_an_answer_is_read(text, thinking, prompt, thought):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_rewritten(Answer(text), thinking) == Rewritten(prompt, thought)


@pytest.mark.parametrize(
    ("answer", "thinking", "message"),
    [
        (Answer(""), False, "holds no prompt: change the prompt or .* chance .*, or draw from the prompt as it is"),
        (Answer(" \n"), False, "holds no prompt"),
        (Answer("", cut=True), False, r"holds no prompt: it was cut .* \(max_new_tokens; in ComfyUI max_length\)"),
        (Answer("<thinking>round?</thinking>"), True, "holds no prompt"),
        (Answer("<think>round?</think> "), False, "holds no prompt"),
        (Answer("a red circle"), True, "gave no thought between <thinking> and </thinking>: change the prompt"),
        (Answer("a red", cut=True), True, "gave no thought .* before its answer was cut .*max_new_tokens"),
        (
            Answer("<thinking>round? a red circle"),
            True,
            "did not end it, so that there is no prompt: change the prompt",
        ),
        (Answer("<thinking>round?", cut=True), True, "did not end it, .* cut by the bound on its length.*max_length"),
        (Answer("<think>round?", cut=True), False, "did not end it"),
        (Answer("a red circle <think>or blue"), False, "did not end it"),
        (
            Answer("a</think>b</think>c"),
            False,
            r"ends a thought twice.*: change .* \(a temperature; in ComfyUI sampling_mode on\)",
        ),
    ],
)
def test_an_answer_without_a_prompt_is_an_error(answer, thinking, message):
    with pytest.raises(ValueError, match=message):
        read_rewritten(answer, thinking)


def test_a_prompt_that_was_cut_is_kept_and_said():
    with pytest.warns(UserWarning, match=r"\(max_new_tokens\) and may end within a sentence"):
        assert read_rewritten(Answer("a red", cut=True)).prompt == "a red"


LONG = "A large red circle stands in the middle of an empty white page."


def rewritten(und, prompt="a red circle", images=(), task="generate", thinking=False, length=LENGTH, **how):
    return rewrite(und, talk_of(prompt, images, task, thinking=thinking), lambda: None, thinking, length, **how)


def test_a_prompt_is_rewritten_while_one_listens():
    und, heard = scripted_understanding(LONG), []
    assert rewritten(und, on_text=heard.append) == Rewritten(LONG)
    assert heard[-1] == LONG
    assert len(heard) > 8
    assert all(later.startswith(earlier) for earlier, later in pairwise(heard))


def test_a_thought_comes_first():
    und = scripted_understanding(f"<thinking>What is round?</thinking> {LONG}")
    assert rewritten(und, thinking=True) == Rewritten(LONG, "What is round?")


def test_an_answer_is_bounded():
    und = scripted_understanding(LONG)
    with pytest.warns(UserWarning, match="was cut"):
        assert rewritten(und, length=3).prompt == "A large red"
    with pytest.raises(ValueError, match="at least 1 token, not 0"):
        rewritten(und, length=0)


def test_by_chance_it_is_the_seeds_words(monkeypatch):
    und, asked = scripted_understanding(LONG), []
    answer_ids = chat.answer_ids
    monkeypatch.setattr(
        chat, "answer_ids", lambda *args, **kw: asked.append((kw, torch.initial_seed())) or answer_ids(*args, **kw)
    )
    rewritten(und)
    rewritten(und, temperature=0.6, top_p=0.9, seed=7)
    (greedy, _), (chance, seed) = asked
    assert greedy["do_sample"] is False
    assert (chance["do_sample"], chance["temperature"], chance["top_p"], seed) == (True, 0.6, 0.9, 7)


def test_pictures_are_looked_at():
    und, seen = scripted_understanding(LONG), []
    hook = und.vlm.model.visual.register_forward_hook(lambda *_: seen.append(1))
    rewritten(und, "make it blue", [noise_picture(1, 112, 84)], "edit")
    hook.remove()
    assert seen == [1]


def test_weights_are_needed_once_all_is_checked(nano):
    """The nano cannot write; markers and settings are refused; a system prompt is bounded by the model's positions."""

    def need() -> None:
        raise AssertionError("the weights were asked for")

    und = scripted_understanding(LONG)
    with pytest.raises(ValueError, match=r"the nano cannot rewrite a prompt.*Qwen2\.5-VL-7B-Instruct"):
        rewrite(nano.und, talk_of("a red circle"), need)
    for talk in (talk_of("a <|im_end|> circle"), talk_of("a circle", system_prompt="<|im_start|>")):
        with pytest.raises(ValueError, match="own marker <"):
            rewrite(und, talk, need)
    with pytest.raises(ValueError, match="temperature must lie"):
        rewrite(und, talk_of("a circle"), need, temperature=-1)
    with pytest.raises(AssertionError, match="were asked for"):
        rewrite(und, talk_of("a circle"), need)


def test_a_long_system_prompt_is_read_or_refused_by_the_models_positions(monkeypatch):
    und, seen = scripted_understanding(LONG), []
    hook = und.vlm.model.language_model.register_forward_pre_hook(
        lambda _, args, kw: seen.append(kw["inputs_embeds"].shape[1]), with_kwargs=True
    )
    talk = talk_of("a circle", system_prompt="Be brief. " * 1000)
    assert rewrite(und, talk, lambda: None).prompt == LONG
    assert seen[0] > 10_000
    monkeypatch.setattr(und.vlm.config.text_config, "max_position_embeddings", seen[0])
    with pytest.raises(ValueError, match=f"is {seen[0]} tokens long, and it reads fewer than {seen[0]}: shorten"):
        rewrite(und, talk, lambda: None)
    hook.remove()
