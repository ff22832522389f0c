"""What can be asked of `lightbagel bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightbagel_core.cli.arguments import make_parser

GENERATE = ["bench", "generate", "geneval", "prompts.jsonl", "--out", "drawn"]
SCORE = ["bench", "score", "imgedit", "basic_edit.json", "--out", "drawn"]


def parsed(*words: str):
    return make_parser().parse_args([*words])


def test_what_is_left_out_is_the_models_own():
    args = parsed(*GENERATE)
    assert (args.action, args.bench, args.prompts, args.out) == (
        "generate",
        "geneval",
        Path("prompts.jsonl"),
        Path("drawn"),
    )
    names = ("preset", "samples", "batch", "seed", "negative", "size", "steps", "solver", "shift", "text_guidance")
    assert all(getattr(args, name) is None for name in (*names, "guidance_interval", "renorm", "rank", "world_size"))
    assert args.source_tokens == ["vae", "vit"]


def test_the_options_of_a_judge():
    judge = ["--judge-url", "http://127.0.0.1:8000/v1", "--judge-model", "m", "--judge-price", "2,8"]
    args = parsed(*SCORE, *judge)
    assert args.judge_price == (2.0, 8.0)
    assert not any(hasattr(args, f"judge_{name}") for name in ("workers", "prompts", "temperature", "max_tokens"))
    assert not any("key" in name for name in vars(args))  # it comes from the environment alone


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench"], "ACTION"),
        (["bench", "generate", "genevil", "p", "--out", "d"], "invalid choice: 'genevil'"),
        (["bench", "generate", "geneval", "p"], "--out"),
        ([*GENERATE, "--preset", "mine"], "invalid choice: 'mine'"),
        (["bench", "run", "all"], "invalid choice: 'all'"),
        (["bench", "table"], "DIR"),
        ([*SCORE, "--judge-workers", "0"], "--judge-workers: it is a whole number from 1 on, not '0'"),
        ([*SCORE, "--judge-price", "nan,1"], "--judge-price: prices are IN,OUT"),
        ([*SCORE, "--judge-max-tokens", "many"], "--judge-max-tokens: it is a whole number from 1 on, or none"),
        ([*SCORE, "--judge-extra", "seed"], "--judge-extra: it is an object of JSON"),
    ],
)
def test_what_makes_no_sense_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(*words)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in said
    assert len(said.splitlines()) == 1
