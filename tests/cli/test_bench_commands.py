"""`lightbagel bench`, from the words of a command to the files of a bench."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightbagel_core.cli.commands import main

ROWS = [
    {"tag": "colors", "include": [{"class": "circle", "count": 1, "color": "red"}], "prompt": "a red circle"},
    {"tag": "counting", "include": [{"class": "circle", "count": 2}], "prompt": "two circles"},
]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def prompts(tmp_path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return file


def generate(prompts: Path, *words: str) -> int:
    out = str(prompts.parent / "out")
    return main(["bench", "generate", "geneval", str(prompts), "--out", out, "--steps", "2", "--quiet", *words])


def test_generate_draws_the_layout_and_lists_what_is_missing(prompts, capsys):
    assert generate(prompts, "--samples", "2") == 2
    out, said = prompts.parent / "out", capsys.readouterr()
    drawn = sorted(file.relative_to(out).as_posix() for file in out.rglob("*.png"))
    assert drawn == ["00000/samples/0000.png", "00000/samples/0001.png"]
    assert json.loads((out / "00000" / "metadata.jsonl").read_text("utf-8")) == ROWS[0]
    assert "2 pictures drawn, 0 there before" in said.out
    assert "evaluate_images.py" in said.out
    assert "1 items were not drawn" in said.err
    assert "00001: this model does not know: circles" in said.err


def test_shares_come_from_the_environment_or_from_options(prompts, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert generate(prompts) == 2
    assert "share 1 of 2: 0 pictures drawn" in capsys.readouterr().out
    assert generate(prompts, "--rank", "0", "--world-size", "2") == 0
    assert "share 0 of 2: 4 pictures drawn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rank", "1"), "--rank and --world-size belong together"),
        (("--rank", "2", "--world-size", "2"), "rank 2 of 2 processes"),
        (("--image-guidance", "2"), "--image-guidance needs source images, and geneval has none"),
        (("--samples", "0"), "samples and batch must be at least 1"),
        (("--preset", "authors"), "does not know: "),  # the nano has no words for the negative prompt
    ],
)
def test_what_makes_no_sense_is_one_line(prompts, words, message, capsys):
    assert generate(prompts, *words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not list((prompts.parent / "out").rglob("*.png"))


def test_other_settings_do_not_mix_in_one_folder(prompts, capsys):
    generate(prompts)
    assert generate(prompts, "--seed", "1") == 2
    assert "holds pictures of another run (settings.asked.seed: 0 and 1)" in capsys.readouterr().err
