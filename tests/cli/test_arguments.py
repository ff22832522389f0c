"""What can be asked on the command line, and what is refused before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lightbagel_core.cli.arguments import make_parser


def test_the_module_runs_and_help_needs_no_torch():
    code = "import sys, lightbagel_core.cli.arguments as a; a.make_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "lightbagel_core", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("lightbagel 0.")


GENERATE = ["generate", "a red circle", "-o", "a.png"]


def parsed(*words: str):
    return make_parser().parse_args([*GENERATE, *words])


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ((), "size", None),
        (("--size", "96x64"), "size", (96, 64)),
        (("--size", "96X64"), "size", (96, 64)),
        (("--size", "96"), "size", (96, 96)),
        ((), "guidance_interval", None),
        (("--guidance-interval", "0.4,1"), "guidance_interval", (0.4, 1.0)),
        (("--offload", "parts"), "offload", "parts"),
        ((), "offload", "auto"),
        ((), "steps", None),  # what is not asked for is the model's own
        ((), "solver", None),
        ((), "text_guidance", None),
        ((), "seed", 0),
        ((), "lora", []),
        (("--lora", "a", "--lora", "b=0.5"), "lora", [(Path("a"), 1.0), (Path("b"), 0.5)]),
    ],
)
def test_what_words_mean(words, name, value):
    assert getattr(parsed(*words), name) == value


def test_sizes_of_files_are_in_gigabytes():
    convert = make_parser().parse_args
    assert convert(["convert", "new"]).shard_size == 4e9
    assert convert(["convert", "new", "--shard-size", "0.5"]).shard_size == 5e8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "x64"], "a size is WIDTHxHEIGHT in pixels, such as 1024x768, not 'x64'"),
        (["--guidance-interval", "0.5"], "an interval is LO,HI between 0 and 1, such as 0.7,1, not '0.5'"),
        (["--dtype", "float64"], "invalid choice"),
        (["--offload", "everything"], "invalid choice"),
        (["--steps", "many"], "invalid int value"),
        (["--lora", "a.safetensors=x"], "argument --lora: it is FILE or FILE=STRENGTH, such as style.safetensors=0.8"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_points_to_help(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(*words)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in said
    assert said.startswith("lightbagel: ")
    assert said.endswith("see lightbagel generate --help\n")
    assert len(said.splitlines()) == 1
