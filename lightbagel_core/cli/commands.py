"""lightbagel generate | edit | describe | chat | compose | info | convert | download | bench | train | prepare."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import COMPONENTS, MODEL_DTYPES
from ..files.file_names import check_new
from ..files.png import write_pngs
from .arguments import EXIT_USAGE, make_parser
from .console import survive_any_console
from .failures import in_words
from .opening import files_of, open_model_of


def _outputs(args: argparse.Namespace) -> list[Path]:
    """The files to write; refuses early what could not be written after minutes of work."""
    path: Path = args.output
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} must end in .png: the settings are kept in the PNG's text")
    check_new(path)
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"the folder {path.parent} may not be written to; choose another")
    paths = (
        [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(args.count)] if args.count > 1 else [path]
    )
    for each in paths:
        if each.is_dir():
            raise ValueError(f"{each} is a folder; name a file")
    return paths


def _draw(args: argparse.Namespace) -> None:
    from ..images import open_image
    from ..sampling.settings import Asked
    from .rewritten import ThoughtThenSteps, by_itself, check_options, rewritten, said_if_cut

    editing = args.command == "edit"
    outputs = _outputs(args)
    sources = [open_image(path) for path in args.images] if editing else []
    prompt = args.instruction if editing else args.prompt
    check_options(args)
    model = open_model_of(args)
    think = by_itself(args, model)
    sized = [model.sizing(sources, think)] if editing else []
    width, height = args.size or (None, None)
    asked = {name: value for name, value in vars(args).items() if name in Asked.__annotations__}
    settings = model.settings(*sized, width=width, height=height, num_images=args.count, **asked)
    size = settings.width, settings.height
    if args.size not in (None, size):
        print(f"size {width}x{height} rounded to {size[0]}x{size[1]}", file=sys.stderr)
    started = time.monotonic()
    if args.rewrite or args.think:
        model.text(args.negative)  # refuses it before minutes of writing
    written = {} if think else rewritten(args, model, prompt, sources)
    drawn = written.get("rewritten_prompt", prompt)
    with said_if_cut(), ThoughtThenSteps(think, args.quiet) as thought:
        how: dict[str, Any] = {"settings": settings, **thought.how}
        if editing:
            asked_for = {"instruction": prompt, "images": [Path(path).name for path in args.images]}
            pictures = model.edit(sources, drawn, args.negative, **how)
        else:
            asked_for = {"prompt": prompt}
            pictures = model.generate(drawn, args.negative, **how)
    seconds = time.monotonic() - started
    dtype = str(model.gen.dtype).removeprefix("torch.")
    about = {"model": model.config.name, "device": str(model.device), "dtype": dtype, "version": __version__}
    loras = {"loras": model.loras} if model.loras else {}
    words = {"command": args.command, **asked_for, **written, **thought.kept, "negative_prompt": args.negative}
    write_pngs(pictures, outputs, {**words, **settings.to_dict(), **about, **loras})
    print(f"{', '.join(map(str, outputs))} ({size[0]}x{size[1]}, {seconds:.1f} s)")


def _describe(args: argparse.Namespace) -> None:
    from .answering import describe

    describe(args)


def _chat(args: argparse.Namespace) -> int:
    from .chatting import chat

    return chat(args)


def _compose(args: argparse.Namespace) -> None:
    from .composed import compose

    compose(args)


def _info(args: argparse.Namespace) -> None:
    from .info import about

    print(about(files_of(args)))


def _convert(args: argparse.Namespace) -> None:
    import torch

    from ..files.convert import convert

    dtype = getattr(torch, MODEL_DTYPES[args.dtype]) if args.dtype else None
    opened = files_of(args, args.only or COMPONENTS)
    convert(opened, args.output, dtype, int(args.shard_size), progress=not args.quiet)
    print(args.output)


def _download(args: argparse.Namespace) -> None:
    from ..files.download import download

    for path in download(args.names, args.to, progress=not args.quiet):
        print(path)


def _bench(args: argparse.Namespace) -> int:
    from .bench_commands import bench

    return bench(args)


def _train(args: argparse.Namespace) -> int:
    from ..training.command import command

    return command(args)


def _prepare(args: argparse.Namespace) -> int:
    from ..training.prepare.prepare_command import command

    return command(args)


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "generate": _draw,
    "edit": _draw,
    "describe": _describe,
    "chat": _chat,
    "compose": _compose,
    "info": _info,
    "convert": _convert,
    "download": _download,
    "bench": _bench,
    "train": _train,
    "prepare": _prepare,
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0 when done, 2 for anything the caller can mend or lacks, 130 when interrupted.

    A training that was asked to stop before its end gives 3.
    """
    survive_any_console()
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.command == "edit" and not any(word.startswith("-") for word in rest):
        # An option stood between the images and the instruction, where argparse ends a list.
        args.images, args.instruction = [*args.images, args.instruction, *rest[:-1]], rest[-1]
    elif rest and args.command == "describe" and not any(word.startswith("-") for word in rest):
        args.questions += rest  # likewise
    elif rest and args.command == "train" and not any(word.startswith("-") for word in rest):
        args.words += rest  # likewise
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    # What libraries make while they are imported stays; to look for garbage there takes a fifth of the time.
    gc.set_threshold(100_000)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            status = COMMANDS[args.command](args)
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        message = in_words(error)
    except KeyboardInterrupt:
        print("lightbagel: interrupted", file=sys.stderr)
        return 130
    else:
        return status or 0
    print(f"lightbagel: {message}", file=sys.stderr)
    return EXIT_USAGE
