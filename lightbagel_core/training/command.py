"""The command that trains: `lightbagel train …`, and the same under torchrun as `-m lightbagel_core.training …`."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .config_file import PRESETS, read
from .stages import Stage

if TYPE_CHECKING:
    from .data.example import Examples

STOPPED = 3  # the exit status of a run that was asked to stop before its end
PLANNED = ("devices", "card", "rate")  # options of the dry run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    presets = ", ".join(sorted(file.stem for file in PRESETS.glob("*.toml")))
    parser.add_argument("words", nargs="*", metavar="CONFIG.toml | KEY=VALUE", help="a config file, and what differs")
    parser.add_argument("--preset", help=f"instead of a config file: {presets}")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder: checkpoints, record, pictures, model"
    )
    parser.add_argument("--steps", type=int, help="of every stage, instead of its own number")
    parser.add_argument(
        "--resume",
        action="store_true",
        help=f"go on with the run that DIR holds; one that is stopped before its end has the exit status {STOPPED}",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what it would need and train; load nothing")
    parser.add_argument("--devices", type=int, help="for the dry run: processes, one a card; default: as now")
    parser.add_argument(
        "--card", type=float, metavar="GB", help="for the dry run: a card's memory; refuse what is more"
    )
    parser.add_argument("--rate", type=float, metavar="TFLOPS", help="for the dry run: what a card computes, for hours")


def stages_of(args: argparse.Namespace) -> list[Stage]:
    """The stages that the command's words name.

    Raises:
        ValueError: no config or two, or as `config_file.read`.
    """
    files = [word for word in args.words if "=" not in word]
    overrides = [word for word in args.words if "=" in word]
    sources = files + ([args.preset] if args.preset else [])
    if len(sources) != 1:
        raise ValueError("train needs one config: a file CONFIG.toml, or --preset NAME")
    stages = read(sources[0], overrides)
    return stages if args.steps is None else [replace(stage, steps=args.steps) for stage in stages]


def _sets(stage: Stage) -> list[Examples | None]:
    """The sets of a stage, opened; None for a folder or store that is not there yet.

    Raises:
        ValueError: it is there, and cannot be learned from.
    """
    from .data.sets import open_set

    found: list[Examples | None] = []
    for number, asked in enumerate(stage.data.sets):
        there = asked.path is None or Path(asked.path).exists()
        found.append(open_set(stage, number) if there else None)
    return found


def _needs_torch() -> None:
    import torch

    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9):
        raise ValueError(f"training needs torch 2.9 or newer, this is {torch.__version__}: pip install -U torch")


def large_pages() -> None:
    """Has torch ask Linux for large pages where it takes much memory at once, unless the environment says otherwise; to
    be called before it takes any. A CPU then looks addresses up less often: a step of the nano takes some 5 % less.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def command(args: argparse.Namespace) -> int:
    """Trains, or says what a training would need; 0 when done, 3 when it was asked to stop before its end.

    Raises:
        ValueError: for anything the caller can mend.
    """
    stages = stages_of(args)
    if args.dry_run:
        from .planning.dry_run import dry_run

        world = args.devices or int(os.environ.get("WORLD_SIZE", "1"))
        card = None if args.card is None else args.card * 1e9
        print(dry_run(stages, world, card, args.rate, {stage.name: _sets(stage) for stage in stages}))
        return 0
    if idle := [f"--{name}" for name in PLANNED if getattr(args, name) is not None]:
        raise ValueError(f"{', '.join(idle)}: only --dry-run asks for it; a training takes what there is")
    if args.out is None:
        raise ValueError("train needs a folder: --out DIR")
    large_pages()
    _needs_torch()
    from .running import run

    try:
        return 0 if run(stages, args.out, args.resume) else STOPPED
    except (MemoryError, RuntimeError) as error:
        if said := _in_words(error):
            raise ValueError(said) from error
        raise


def _in_words(error: MemoryError | RuntimeError) -> str:
    """What a person can do about a failure of the machine; "" where it is the program's own."""
    from torch._dynamo.exc import TorchDynamoException

    first = str(error).split("\n\n")[0]  # what follows is for programmers
    if isinstance(error, TorchDynamoException):
        return f"compiling does not work here ({first}): train with compile=false"
    if isinstance(error, MemoryError) or "memory" in first:
        return (
            "not enough memory: train with a smaller batch.device_tokens=, checkpointing=true, base=float8 or "
            "optimiser.name=adamw-8bit; --dry-run says what takes how much"
        )
    if "gloo" in first.lower() or "nccl" in first.lower():
        return f"another process of this training has ended or does not answer ({first}); what it said last says why"
    return ""
