"""System prompts: ours follow the language of the prompt, which quotes do not change."""

from __future__ import annotations

import re

import pytest

from lightbagel_core.language.system_prompts import REWRITING, THINKING, language_of, system_prompt_for


@pytest.mark.parametrize(
    ("prompt", "language"),
    [
        ("a red circle", "en"),
        ("一个红色的圆", "zh"),
        ('一张海报，写着"GRAND OPENING OF THE NEW SHOP IN TOWN"', "zh"),
        ("a poster that says “新店开张，欢迎光临，全场五折优惠”", "en"),
        ("画一只 cyberpunk 风格的猫", "zh"),
        ("a cat named 小白 on a sofa", "en"),
        ("「欢迎」", "zh"),  # nothing else is there
        ("赤い円を描いてください", "en"),
        ("빨간 원", "en"),
        ("un chat noir à côté d'une fenêtre", "en"),
        ("1:1 !!", "en"),
    ],
)
def test_the_language_of_a_prompt(prompt, language):
    assert language_of(prompt) == language


@pytest.mark.parametrize("task", ["generate", "edit"])
@pytest.mark.parametrize(("prompt", "language"), [("a red circle", "en"), ("红色的圆", "zh")])
def test_the_language_chooses_the_system_prompt(task, prompt, language):
    assert system_prompt_for(prompt, task) == REWRITING[task][language]
    thinking = system_prompt_for(prompt, task, thinking=True)
    assert thinking == f"{REWRITING[task][language]}\n\n{THINKING[language]}"


def test_both_languages_have_the_same_rules():
    for texts in REWRITING.values():
        numbers = {language: re.findall(r"^(\d)\. ", text, re.MULTILINE) for language, text in texts.items()}
        assert numbers["en"] == numbers["zh"] == [str(i) for i in range(1, 8)]
        assert not re.search("[\u4e00-\u9fff]", texts["en"])
        assert not re.search(r"[a-z]{3}", texts["zh"])
        assert re.search("quotation marks", texts["en"])
        assert re.search("引号", texts["zh"])
    for text in THINKING.values():
        assert "<thinking>" in text
        assert "</thinking>" in text


def test_no_marker_of_a_qwen_is_in_them():
    """Such a marker is refused in any text; newer Qwens' tokenizers have <think> among theirs, as ComfyUI's has."""
    for text in (*THINKING.values(), *(t for texts in REWRITING.values() for t in texts.values())):
        assert not re.search(r"</?think>|<\|", text)


def test_ones_own_takes_the_place_of_ours():
    assert system_prompt_for("a red circle", "edit", own="Be brief.") == "Be brief."
    assert system_prompt_for("a red circle", "edit", True, "Be brief.") == f"Be brief.\n\n{THINKING['en']}"
    for empty in ("", " \n"):
        with pytest.raises(ValueError, match="the system prompt is empty"):
            system_prompt_for("a red circle", "edit", own=empty)
