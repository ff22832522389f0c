"""The command line: lightbagel generate | edit | describe | info | convert | download."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from . import __version__
from .config import ATTENTION, CACHES, DTYPES, PARTS, Renorm, SolverName
from .files.download import KNOWN

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from .files.formats import Opened
    from .pipeline import LightBagel

EXIT_USAGE = 2


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a size is WIDTHxHEIGHT in pixels, such as 1024x768, not {text!r}") from None


def _interval(text: str) -> tuple[float, float]:
    lo, _, hi = text.partition(",")
    try:
        return float(lo), float(hi)
    except ValueError:
        raise argparse.ArgumentTypeError(f"an interval is LO,HI between 0 and 1, such as 0.7,1, not {text!r}") from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"lightbagel: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lightbagel", description="One model that draws, edits and describes pictures.")
    parser.add_argument("--version", action="version", version=f"lightbagel {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    files = _Parser(add_help=False)
    where = files.add_argument_group("model files")
    where.add_argument("--model", help='"nano" (built in), a checkpoint folder, or the authors\' file or folder')
    for part, help in {
        "understanding": "Qwen2.5-VL: Hugging Face folder or single file",
        "generation": "Wan2.2-TI2V-5B: diffusers folder or single file",
        "fusion": "a fusion stack",
        "vae": "the Wan2.2 VAE: diffusers folder or single file",
    }.items():
        where.add_argument(f"--{part}", type=Path, metavar="PATH", help=f"{help}; wins over the model's")
    where.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="default: beside the understanding part")
    where.add_argument("--config", type=Path, metavar="FILE", help="for a model of another size than 7B + 5B")

    model = _Parser(add_help=False, parents=[files])
    model.add_argument("--device", help="cpu, cuda, mps …; default: the accelerator that is there")
    model.add_argument("--dtype", choices=DTYPES, help="default: float32 on the CPU, else bfloat16; float8 as stored")
    model.add_argument(
        "--offload",
        choices=("auto", "none", "parts", "layers"),
        default="auto",
        help="parts: only what a step needs is on the card; layers: weights are streamed through it; "
        "auto (default): as little of it as the card's free memory allows",
    )

    draw = _Parser(add_help=False)
    draw.add_argument("-o", "--output", type=Path, required=True, help="the .png to write; with --count: name-1.png …")
    draw.add_argument("--negative", default="", metavar="PROMPT", help="what to keep away from")
    draw.add_argument("--size", type=_size, metavar="WxH", help="output size in pixels")
    draw.add_argument("--seed", type=int, default=0)
    draw.add_argument("--count", type=int, default=1, help="pictures to make at once")
    draw.add_argument("--steps", type=int, help="denoising steps; default: the model's own")
    draw.add_argument("--solver", choices=get_args(SolverName))
    draw.add_argument("--text-guidance", type=float, help="1 or less: off")
    draw.add_argument("--guidance-interval", type=_interval, default=(0.0, 1.0), metavar="LO,HI")
    draw.add_argument("--renorm", choices=get_args(Renorm), default="none")
    draw.add_argument("--renorm-min", type=float, default=0.0)
    draw.add_argument("--attention", choices=ATTENTION, help="default: the fastest that is installed; see info")
    draw.add_argument("--compile", action="store_true", help="compile what repeats: slower to start, then quicker")
    draw.add_argument("--cuda-graphs", action="store_true", help="also replay steps as CUDA graphs, for small pictures")
    draw.add_argument("--quiet", action="store_true", help="no progress bar")

    generate = commands.add_parser("generate", parents=[model, draw], help="draw a picture of a prompt")
    generate.add_argument("prompt")
    edit = commands.add_parser("edit", parents=[model, draw], help="change a picture by an instruction")
    edit.add_argument("images", nargs="+", metavar="IMAGE", help="one or more source images")
    edit.add_argument("instruction")
    edit.add_argument("--image-guidance", type=float, help="above 1: dual guidance")
    describe = commands.add_parser("describe", parents=[model], help="describe a picture or answer a question")
    describe.add_argument("image")
    describe.add_argument("question", nargs="?")
    describe.add_argument("--each", nargs="+", default=[], metavar="IMAGE", help="more pictures, each answered for")
    describe.add_argument("--max-new-tokens", type=int, default=128)
    describe.add_argument(
        "--cache", choices=CACHES, default="dynamic", help="static: transformers compiles its steps on a CUDA device"
    )
    commands.add_parser("info", parents=[files], help="what a model is made of, and which card it fits")
    convert = commands.add_parser("convert", parents=[files], help="write a checkpoint folder of our own")
    convert.add_argument("output", type=Path, metavar="FOLDER", help="the new folder")
    convert.add_argument("--dtype", choices=DTYPES, help="default: as stored")
    convert.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="leave the other parts out")
    convert.add_argument("--shard-size", type=_gigabytes, default=4e9, metavar="GB", help="of a file; default: 4")
    convert.add_argument("--quiet", action="store_true", help="no progress bar")
    fetch = commands.add_parser("download", help="fetch model files into ComfyUI's models folder")
    fetch.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(KNOWN)}, or OWNER/REPO:PATH/IN/REPO")
    fetch.add_argument("--to", type=Path, required=True, metavar="MODELS_FOLDER", help="ComfyUI's models folder")
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _gigabytes(text: str) -> float:
    try:
        size = float(text) * 1e9
    except ValueError:
        size = 0
    if not 0 < size < float("inf"):
        raise argparse.ArgumentTypeError(f"a size is a number of gigabytes above 0, not {text!r}")
    return size


def _files(args: argparse.Namespace, need: Sequence[str] = PARTS) -> Opened:
    """The model that --model and its sisters name: the nano if they name nothing."""
    from .config import NANO
    from .files.formats import open_model

    parts = {part: getattr(args, part) for part in PARTS if getattr(args, part) is not None}
    name = args.model or ("nano" if not parts else None)
    checkpoint = NANO if name == "nano" else Path(name) if name else None
    return open_model(checkpoint, parts=parts, tokenizer=args.tokenizer, config=args.config, need=need)


def _open(args: argparse.Namespace) -> LightBagel:
    import torch

    from .files.precision import default_device
    from .info import NO_FUSION
    from .pipeline import LightBagel

    try:
        device = torch.device(args.device) if args.device else default_device()
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {args.device!r} does not work here: {str(error).splitlines()[0]}") from None
    opened = _files(args)
    dtype = getattr(torch, DTYPES[args.dtype]) if args.dtype else None
    attention = getattr(args, "attention", None)  # describing has none of these options
    model = LightBagel.of(opened, device, dtype, _offload(args, opened, device, dtype), attention)
    if model.unfused:
        print(f"lightbagel: {NO_FUSION}", file=sys.stderr)
    if getattr(args, "compile", False) or getattr(args, "cuda_graphs", False):
        model.compile(graphs=args.cuda_graphs)
    return model


def _offload(args: argparse.Namespace, opened: Opened, device: torch.device, dtype: torch.dtype | None) -> Any:
    """What --offload asks for; by itself as little as the graphics card allows."""
    if args.offload != "auto" or device.type != "cuda":
        return None if args.offload in ("auto", "none") else args.offload
    import torch

    from .files.precision import Precision
    from .memory.plan import Work, offload_for

    default = opened.config.defaults
    width, height = getattr(args, "size", None) or (default.width, default.height)
    work = Work(width, height, len(getattr(args, "images", ())), 3 * getattr(args, "count", 1))
    card = torch.cuda.mem_get_info(device)[0]
    return offload_for(opened.config, opened.parts, Precision.of(dtype, device), card, work)


def _outputs(args: argparse.Namespace) -> list[Path]:
    """The files to write; refuses early what could not be written after minutes of work."""
    path: Path = args.output
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} must end in .png: the settings are kept in the PNG's text")
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


def write_pngs(pictures: Sequence[Image], paths: Sequence[Path], settings: dict[str, Any]) -> None:
    """Writes PNGs with their settings as JSON in the text chunk "lightbagel": all of them whole, or none.

    Raises:
        ValueError: they could not be written, for instance because the disk is full.
    """
    from PIL.PngImagePlugin import PngInfo

    partials: list[Path] = []
    try:
        for index, (picture, path) in enumerate(zip(pictures, paths, strict=True)):
            text = PngInfo()
            text.add_text("lightbagel", json.dumps({**settings, "index": index}))
            partials.append(path.with_name(f".{path.name}.{os.getpid()}.partial"))
            with open(partials[-1], "wb") as file:
                picture.save(file, "PNG", pnginfo=text)
                file.flush()
                os.fsync(file.fileno())
        for partial, path in zip(partials, paths, strict=True):
            os.replace(partial, path)
    except OSError as error:
        raise ValueError(f"could not write {paths[len(partials) - 1]}: {error.strerror or error}") from None
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def _draw(args: argparse.Namespace) -> None:
    outputs = _outputs(args)
    settings: dict[str, Any] = {
        "negative_prompt": args.negative,
        "steps": args.steps,
        "text_guidance": args.text_guidance,
        "guidance_interval": args.guidance_interval,
        "renorm": args.renorm,
        "renorm_min": args.renorm_min,
        "solver": args.solver,
        "seed": args.seed,
        "num_images": args.count,
    }
    sources = []
    if args.command == "edit":
        from .images import open_image

        sources = [open_image(path) for path in args.images]
        settings["image_guidance"] = args.image_guidance
    model = _open(args)
    if args.size is not None:
        size = model.size(*args.size)
        if size != args.size:
            print(f"size {args.size[0]}x{args.size[1]} rounded to {size[0]}x{size[1]}", file=sys.stderr)
        settings |= {"width": size[0], "height": size[1]}
    started = time.monotonic()
    if args.command == "edit":
        pictures = model.edit(sources, args.instruction, progress=not args.quiet, **settings)
    else:
        pictures = model.generate(args.prompt, progress=not args.quiet, **settings)
    seconds = time.monotonic() - started
    default = model.config.defaults
    text_guidance = default.edit_text_guidance if args.command == "edit" else default.text_guidance
    chosen = {"steps": default.steps, "text_guidance": text_guidance, "solver": default.solver}
    chosen["image_guidance"] = default.image_guidance
    settings = {key: chosen.get(key) if value is None else value for key, value in settings.items()}
    named: dict[str, Any] = {"prompt": args.prompt} if args.command == "generate" else {"instruction": args.instruction}
    if sources:
        named["images"] = [Path(path).name for path in args.images]
    settings |= {"width": pictures[0].width, "height": pictures[0].height, "shift": default.shift}
    dtype = str(model.gen.dit.patch_embedding.weight.dtype).removeprefix("torch.")
    where = {"model": model.config.name, "device": str(model.device), "dtype": dtype, "version": __version__}
    write_pngs(pictures, outputs, {"command": args.command, **named, **settings, **where})
    print(f"{', '.join(map(str, outputs))} ({pictures[0].width}x{pictures[0].height}, {seconds:.1f} s)")


def _describe(args: argparse.Namespace) -> None:
    from .images import open_image

    if args.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens must be at least 1, not {args.max_new_tokens}")
    paths = [args.image, *args.each]
    pictures = [open_image(path) for path in paths]
    question = {} if args.question is None else {"question": args.question}
    options = {"max_new_tokens": args.max_new_tokens, "cache": args.cache, **question}
    answers = _open(args).describe_each(pictures, **options)
    if len(answers) == 1:
        print(answers[0])
        return
    for path, answer in zip(paths, answers, strict=True):
        print(f"{path}: {' '.join(answer.split())}")


def _info(args: argparse.Namespace) -> None:
    from .info import about

    print(about(_files(args)))


def _convert(args: argparse.Namespace) -> None:
    import torch

    from .files.convert import convert

    dtype = getattr(torch, DTYPES[args.dtype]) if args.dtype else None
    opened = _files(args, args.only or PARTS)
    convert(opened, args.output, dtype, int(args.shard_size), progress=not args.quiet)
    print(args.output)


def _download(args: argparse.Namespace) -> None:
    from .files.download import download

    for path in download(args.names, args.to, progress=not args.quiet):
        print(path)


COMMANDS = {
    "generate": _draw,
    "edit": _draw,
    "describe": _describe,
    "info": _info,
    "convert": _convert,
    "download": _download,
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0 when done, 2 for anything the caller can mend, 130 when interrupted."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.command == "edit" and not any(word.startswith("-") for word in rest):
        # An option stood between the images and the instruction, where argparse ends a list.
        args.images, args.instruction = [*args.images, args.instruction, *rest[:-1]], rest[-1]
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            COMMANDS[args.command](args)
    except (ValueError, OSError) as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:
        from torch._dynamo.exc import BackendCompilerFailed

        if isinstance(error, BackendCompilerFailed):
            reason = str(error).split("\n\n")[0]  # what follows is for programmers
            message = f"compiling does not work here ({reason}); leave out --compile, --cuda-graphs, --cache static"
        elif isinstance(error, MemoryError) or "memory" in str(error):
            message = "not enough memory; try --offload parts (or layers), --dtype float8, or fewer or smaller pictures"
        else:
            raise
    except KeyboardInterrupt:
        print("lightbagel: interrupted", file=sys.stderr)
        return 130
    else:
        return 0
    print(f"lightbagel: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
