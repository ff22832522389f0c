"""What can be asked on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn, get_args

from .. import __version__
from ..config import ATTENTION, COMPONENTS, MODEL_DTYPES, Renorm, SolverName
from ..files.download import KNOWN
from ..training.command import add_arguments as add_training
from ..training.prepare.prepare_command import add_arguments as add_preparing
from .argument_types import gigabytes, interval, lora, size
from .bench_arguments import add_bench
from .composed import add_arguments as add_composing

EXIT_USAGE = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"lightbagel: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="lightbagel", description="One model that draws, edits and describes pictures.")
    parser.add_argument("--version", action="version", version=f"lightbagel {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    files = Parser(add_help=False)
    where = files.add_argument_group("model files")
    where.add_argument("--model", help='"nano" (built in), a checkpoint folder, or the authors\' file or folder')
    for component, help in {
        "understanding": "Qwen2.5-VL: Hugging Face folder or single file",
        "generation": "Wan2.2-TI2V-5B: diffusers folder or single file",
        "fusion": "a fusion stack",
        "vae": "the Wan2.2 VAE: diffusers folder or single file",
    }.items():
        where.add_argument(f"--{component}", type=Path, metavar="PATH", help=f"{help}; wins over the model's")
    where.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="default: beside the understanding component")
    where.add_argument(
        "--lora",
        type=lora,
        action="append",
        default=[],
        metavar="FILE",
        help="a LoRA of the DiT or the fusion stack, FILE or FILE=STRENGTH; as often as wanted, they add up",
    )
    where.add_argument("--config", type=Path, metavar="FILE", help="for a model of another size than 7B + 5B")

    model = Parser(add_help=False, parents=[files])
    model.add_argument("--device", help="cpu, cuda, mps …; default: the accelerator that is there")
    model.add_argument(
        "--dtype", choices=MODEL_DTYPES, help="default: float32 on the CPU, else bfloat16; float8 as stored"
    )
    model.add_argument(
        "--offload",
        choices=("auto", "none", "parts", "layers"),
        default="auto",
        help="parts: only what a step needs is on the card; layers: weights are streamed through it; "
        "auto (default): as little of it as the card's free memory allows",
    )

    draw = Parser(add_help=False)
    draw.add_argument("--negative", default="", metavar="PROMPT", help="what to keep away from")
    draw.add_argument("--size", type=size, metavar="WxH", help="output size in pixels")
    draw.add_argument("--seed", type=int, default=0)
    draw.add_argument("--steps", type=int, help="denoising steps; default: the model's own")
    draw.add_argument("--solver", choices=get_args(SolverName))
    draw.add_argument("--text-guidance", type=float, help="1 or less: off")
    draw.add_argument("--guidance-interval", type=interval, metavar="LO,HI", help="default: the model's own")
    draw.add_argument("--renorm", choices=get_args(Renorm), help="default: the model's own")
    draw.add_argument("--renorm-min", type=float, default=0.0)
    draw.add_argument("--attention", choices=ATTENTION, help="default: the fastest that is installed; see info")
    draw.add_argument("--compile", action="store_true", help="compile what repeats: slower to start, then quicker")
    draw.add_argument("--quiet", action="store_true", help="no progress bar")

    once = Parser(add_help=False)
    once.add_argument("-o", "--output", type=Path, required=True, help="the .png to write; with --count: name-1.png …")
    once.add_argument("--count", type=int, default=1, help="pictures to make at once")
    words = once.add_argument_group("words before the picture", "by the VLM that is loaded; its text is in the PNG too")
    words.add_argument("--rewrite", action="store_true", help="have it write the prompt out, and draw that")
    words.add_argument(
        "--think",
        action="store_true",
        help="have it think first; weights that were trained to then draw after their thought, others write the "
        "prompt out as with --rewrite",
    )
    words.add_argument("--system-prompt", type=Path, metavar="FILE", help="what it is told, in place of our own words")
    words.add_argument("--max-new-tokens", type=int, metavar="N", help="of what it writes; default: 512")

    generate = commands.add_parser("generate", parents=[model, draw, once], help="draw a picture of a prompt")
    generate.add_argument("prompt")
    edit = commands.add_parser("edit", parents=[model, draw, once], help="change a picture by an instruction")
    edit.add_argument("images", nargs="+", metavar="IMAGE", help="one or more source images")
    edit.add_argument("instruction")
    edit.add_argument("--image-guidance", type=float, help="above 1: dual guidance")
    describe = commands.add_parser("describe", parents=[model], help="describe a picture or answer questions")
    describe.add_argument("image")
    describe.add_argument("questions", nargs="*", metavar="question", help="several are one conversation")
    describe.add_argument("--each", nargs="+", default=[], metavar="IMAGE", help="more pictures, each answered for")
    describe.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="of an answer; default: 128")
    describe.add_argument("--json", action="store_true", help="one JSON object, as cli/describe.schema.json says")
    chat = commands.add_parser("chat", parents=[model, draw], help="draw, edit and ask in turns; /help says how")
    chat.add_argument("--open", type=Path, metavar="FOLDER", help="a conversation that was saved there, to go on with")
    chat.add_argument("--history", type=int, metavar="N", help="earlier turns that an edit looks at; default: 0")
    chat.add_argument("--image-guidance", type=float, help="of edits; above 1: dual guidance")
    chat.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="of an answer; default: 128")
    add_composing(
        commands.add_parser(
            "compose", parents=[model], help="experimental: answer in words and pictures, into a folder"
        )
    )
    commands.add_parser("info", parents=[files], help="what a model is made of, and which card it fits")
    convert = commands.add_parser("convert", parents=[files], help="write a checkpoint folder of our own")
    convert.add_argument("output", type=Path, metavar="FOLDER", help="the new folder")
    convert.add_argument("--dtype", choices=MODEL_DTYPES, help="default: as stored")
    convert.add_argument("--only", nargs="+", choices=COMPONENTS, metavar="COMPONENT", help="leave the others out")
    convert.add_argument("--shard-size", type=gigabytes, default=4e9, metavar="GB", help="of a file; default: 4")
    convert.add_argument("--quiet", action="store_true", help="no progress bar")
    fetch = commands.add_parser("download", help="fetch model files into ComfyUI's models folder")
    fetch.add_argument("names", nargs="+", metavar="NAME", help=f"{', '.join(KNOWN)}, or OWNER/REPO:PATH/IN/REPO")
    fetch.add_argument("--to", type=Path, required=True, metavar="MODELS_FOLDER", help="ComfyUI's models folder")
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    add_bench(commands, model, Parser)
    add_training(commands.add_parser("train", help="train a model, or parts of one"))
    add_preparing(commands.add_parser("prepare", help="make a store of a data set, to train on"))
    return parser
