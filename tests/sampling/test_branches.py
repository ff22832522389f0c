"""The order of contents in every branch, written out by hand."""

from __future__ import annotations

from lightbagel_core.sampling.branches import Said, branches_of, thinking_branches


def test_a_prompt_alone():
    assert branches_of([], "red", "") == {"full": ["red"], "negative": [""], "no_image": ["red"]}


def test_an_edit():
    found = branches_of(["vae1", "vit1"], "blue", "ugly")
    assert found == {"full": ["vae1", "vit1", "blue"], "negative": ["vae1", "vit1", "ugly"], "no_image": ["blue"]}


def test_a_turn_after_two_others():
    history = [Said([], "red"), Said(["vae1", "vit1"], "blue")]
    assert branches_of(["vae2", "vit2"], "green", "", history) == {
        "full": ["red", "vae1", "vit1", "blue", "vae2", "vit2", "green"],
        "negative": ["red", "vae1", "vit1", "blue", "vae2", "vit2", ""],
        "no_image": ["red", "blue", "green"],
    }


def test_a_thought():
    found = thinking_branches(["vae1", "vit1"], ["system", "blue", "thought"])
    assert found == {
        "full": ["vae1", "vit1", "system", "blue", "thought"],
        "negative": ["vae1", "vit1"],
        "no_image": ["system", "blue", "thought"],
    }
    assert thinking_branches([], ["system", "red", "thought"])["negative"] == []
