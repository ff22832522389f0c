"""What the nano can do, on fresh scenes and sentences; the thresholds lie a little under what it reached."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenes import BLUE, PAIR, PICTURE, RED

from lightbagel_core.config import NANO
from lightbagel_core.evaluation import nano as evaluate
from lightbagel_core.evaluation.nano import agrees, edited
from lightbagel_core.sampling.guidance import Guidance
from lightbagel_core.world.scenes import Scene

FULL = ((101, 102), 50)  # seeds, samples of each
QUICK = ((102,), 20)


@pytest.fixture(params=["quick", pytest.param("full", marks=pytest.mark.slow)])
def reaches(request):
    """Whether a score's mean over the seeds lies above what it must: of `quick` or `full`, as many as are scored."""
    seeds, count = FULL if request.param == "full" else QUICK

    def reached(score, quick: float, full: float) -> bool:
        return sum(score(count, seed) for seed in seeds) / len(seeds) >= (full if request.param == "full" else quick)

    return reached


def test_it_describes(nano, reaches):
    assert reaches(lambda count, seed: evaluate.describe_score(nano, count, seed), quick=0.95, full=0.97)


def test_its_vae_keeps_what_matters(nano, reaches):
    assert reaches(lambda count, seed: evaluate.vae_score(nano, count, seed), quick=0.95, full=0.97)


def test_it_draws_what_the_prompt_says(nano, reaches):
    guidance = Guidance(nano.config.defaults.text_guidance)
    assert reaches(lambda count, seed: evaluate.generate_score(nano, count, seed, guidance)[0], quick=0.75, full=0.80)


def test_it_edits_and_leaves_the_rest(nano, reaches):
    guidance = Guidance(nano.config.defaults.edit_text_guidance)
    assert reaches(lambda count, seed: evaluate.edit_score(nano, count, seed, guidance)[0], quick=0.70, full=0.62)


def test_it_answers_questions(nano, reaches):
    assert reaches(lambda count, seed: evaluate.answer_score(nano, count, seed), quick=0.85, full=0.80)


def test_it_counts(nano):
    assert nano.describe(PICTURE, "How many shapes are there?") == "two"


@pytest.mark.slow
def test_both_kinds_of_source_token_beat_either_alone(nano):
    """The double fusion (paper, ablation of source tokens); all three see the same scenes and noise."""
    guidance = Guidance(nano.config.defaults.edit_text_guidance)
    seeds, count = FULL

    def score(*tokens: str) -> float:
        return sum(evaluate.edit_score(nano, count, seed, guidance, tokens)[0] for seed in seeds)

    assert score("vae", "vit") > max(score("vae"), score("vit"))


def test_it_fits_its_package():
    assert sum(f.stat().st_size for f in NANO.iterdir()) <= 32_000_000
    assert {f.suffix for f in NANO.iterdir()} <= {".safetensors", ".json", ".jinja"}


def test_scoring_a_generated_picture():
    prompt = "a red circle left of a small blue square on a white background"
    assert agrees(prompt, PAIR, PAIR)
    assert agrees(prompt, PAIR, Scene("white", (replace(RED, size="small"), BLUE)))  # no size was asked of the circle
    assert not agrees(prompt, PAIR, Scene("white", (RED, replace(BLUE, size="large"))))
    assert not agrees(prompt, PAIR, Scene("grey", PAIR.things))
    assert not agrees(prompt, PAIR, Scene("white", (replace(RED, place="right"), replace(BLUE, place="left"))))
    assert not agrees(prompt, PAIR, Scene("white", (RED,)))
    assert not agrees(prompt, PAIR, None)
    free = "a red circle and a blue square"
    assert agrees(free, PAIR, Scene("white", (replace(RED, place="top"), replace(BLUE, place="bottom"))))
    assert not agrees(free, PAIR, Scene("white", (replace(RED, colour="green"), BLUE)))


def test_scoring_an_edit():
    target = replace(PAIR, things=(replace(RED, colour="green"), BLUE))
    assert edited("make the circle green", target, target)
    assert not edited("make the circle green", target, PAIR)
    moved = replace(target, things=(target.things[0], replace(BLUE, dx=-2)))
    assert not edited("make the circle green", target, moved)  # three pixels: the square was to stay
    added = Scene("white", (RED, replace(BLUE, dx=-2, dy=2)))
    assert edited("add a small blue square on the right", PAIR, added)  # where exactly a new thing stands is free
    pushed = Scene("white", (replace(RED, dx=3), BLUE))
    assert not edited("add a small blue square on the right", PAIR, pushed)
    assert edited("add a blue square on the right", PAIR, Scene("white", (RED, replace(BLUE, size="large"))))
    assert not edited("add a small blue square on the right", PAIR, Scene("white", (RED, replace(BLUE, size="large"))))
