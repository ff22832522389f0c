"""What can be asked of `lightbagel bench`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from ..config import ATTENTION, Renorm, SolverName
from ..evaluation.registry import MODULES
from .argument_types import count, interval, json_object, or_none, prices, size

PRESETS = ("authors",)


def add_bench(commands: Any, model: argparse.ArgumentParser, kind: type[argparse.ArgumentParser]) -> None:
    """Adds the command `bench` with its own commands to a parser's commands.

    Args:
        model: the options that say which model is opened. kind: the class of the parsers.
    """
    bench: argparse.ArgumentParser = commands.add_parser(
        "bench", help="measure a model: draw a bench's pictures, score them, show the figures"
    )
    actions = bench.add_subparsers(dest="action", required=True, metavar="ACTION")
    files = _files(kind)
    _generate(actions, [model, _settings(kind), files])
    _score(actions, [files])
    _table(actions)
    _run(actions, [model])


def _files(kind: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    files = kind(add_help=False)
    files.add_argument("bench", choices=tuple(MODULES), metavar="BENCH", help=", ".join(MODULES))
    files.add_argument("prompts", type=Path, metavar="PROMPTS", help="the bench's own prompt file or folder")
    files.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of the pictures")
    files.add_argument("--image-folder", type=Path, metavar="DIR", help="source pictures; default: beside the prompts")
    return files


def _settings(kind: type[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    settings = kind(add_help=False)
    draw = settings.add_argument_group(
        "how it is drawn", "what is left out is the preset's, without one the model's own"
    )
    draw.add_argument("--preset", choices=PRESETS, help="authors: the paper's settings")
    draw.add_argument("--samples", type=int, help="pictures of each prompt; default: the bench's")
    draw.add_argument("--batch", type=int, help="pictures drawn at once; default: the bench's")
    draw.add_argument("--seed", type=int, help="another seed draws all pictures anew")
    draw.add_argument("--negative", metavar="PROMPT", help="what to keep away from")
    draw.add_argument("--size", type=size, metavar="WxH", help="in pixels; default for edits: their source's")
    draw.add_argument("--steps", type=int, metavar="N", help="denoising steps")
    draw.add_argument("--solver", choices=get_args(SolverName))
    draw.add_argument("--shift", type=float, metavar="X", help="of the noise times")
    draw.add_argument("--text-guidance", type=float, metavar="X", help="1 or less: off")
    draw.add_argument("--image-guidance", type=float, metavar="X", help="above 1: dual guidance; edits alone have it")
    draw.add_argument("--guidance-interval", type=interval, metavar="LO,HI", help="where guidance acts: 1 is noise")
    draw.add_argument("--renorm", choices=get_args(Renorm), help="of the guided velocity")
    draw.add_argument("--renorm-min", type=float, metavar="X", help="the least factor of renorm, 0 to 1")
    draw.add_argument(
        "--source-tokens", nargs="+", choices=("vae", "vit"), default=["vae", "vit"], help="default: both kinds"
    )
    draw.add_argument("--attention", choices=ATTENTION, help="default: the fastest that is installed; see info")
    draw.add_argument("--compile", action="store_true", help="compile what repeats")
    draw.add_argument("--quiet", action="store_true", help="no progress bar")
    share = settings.add_argument_group("several processes", "default: what RANK and WORLD_SIZE, or SLURM's step, say")
    share.add_argument("--rank", type=int, help="which share this process draws, from 0 on")
    share.add_argument("--world-size", type=int, help="how many processes share the bench")
    return settings


def _generate(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    actions.add_parser("generate", parents=parents, help="draw the pictures that a bench asks for")


def _score(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    score = actions.add_parser("score", parents=parents, help="figures from what a detector or a judge says")
    score.add_argument("--results", type=Path, help="what the official scorer wrote; default: in the pictures' folder")
    judge = score.add_argument_group(
        "a judge",
        "gedit, imgedit, wise: pictures are sent to --judge-url alone; its key is read from LIGHTBAGEL_JUDGE_KEY, for"
        " api.openai.com else from OPENAI_API_KEY, which goes to no other host",
    )
    judge.add_argument("--judge-url", help="an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1")
    own = {"default": argparse.SUPPRESS}  # what is left out is not there, so that each can be seen to be given
    judge.add_argument("--judge-model", metavar="NAME", **own)
    judge.add_argument("--judge-prompts", type=Path, metavar="FILE", help="in your copy of the bench", **own)
    judge.add_argument(
        "--judge-temperature",
        type=or_none(float),
        metavar="X",
        help="default: 0; none: for models that take none",
        **own,
    )
    judge.add_argument(
        "--judge-max-tokens",
        type=or_none(count),
        metavar="N",
        help="of an answer; default: 2000; none: as above",
        **own,
    )
    judge.add_argument(
        "--judge-extra",
        type=json_object,
        metavar="JSON",
        help="sent with each question, such as '{\"max_completion_tokens\": 4000}'",
        **own,
    )
    judge.add_argument(
        "--judge-price", type=prices, metavar="IN,OUT", help="of a million tokens, for the cost line", **own
    )
    judge.add_argument("--judge-workers", type=count, metavar="N", help="questions asked at once; default: 8", **own)
    score.add_argument("--quiet", action="store_true", help="no progress bar")


def _table(actions: Any) -> None:
    table = actions.add_parser("table", help="runs that were scored, beside the paper's figures")
    table.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="folders of scored runs")
    table.add_argument("--markdown", type=Path, metavar="FILE.md", help="write the table there too")
    table.add_argument("--figure", type=Path, metavar="FILE.png", help="draw the figures as a picture")
    table.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="a contact sheet of the worst items; of several runs one each"
    )


def _run(actions: Any, parents: list[argparse.ArgumentParser]) -> None:
    run = actions.add_parser("run", parents=parents, help="all of a group of suites in one: make, draw, score, show")
    run.add_argument("suites", choices=("nano",), help="nano: the suites of the nano's own world")
    run.add_argument("--out", type=Path, default=Path("nano-bench"), metavar="DIR", help="default: nano-bench")
    run.add_argument("--count", type=int, help="items of each suite; default: 100, a minute on two cores")
    run.add_argument("--full", action="store_true", help="400 items of each class, over five seeds: 20 minutes there")
    run.add_argument("--attention", choices=ATTENTION, help="default: the fastest that is installed; see info")
    run.add_argument("--compile", action="store_true", help="compile what repeats")
    run.add_argument("--quiet", action="store_true", help="no progress bar")
