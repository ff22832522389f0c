"""lightbagel compose: a request answered in words and pictures, into a folder. Experimental."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .argument_types import size
from .console import shown
from .opening import open_model_of

if TYPE_CHECKING:
    from ..conversation.composition import Part


def add_arguments(compose: argparse.ArgumentParser) -> None:
    compose.add_argument("request")
    compose.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    compose.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="a picture that the request is about; repeatable"
    )
    compose.add_argument("--tries", type=int, default=1, help="again, where the VLM finds a picture wrong; default: 1")
    compose.add_argument("--size", type=size, metavar="WxH", help="size of the pictures in pixels")
    compose.add_argument("--seed", type=int, default=0)
    compose.add_argument("--steps", type=int, help="denoising steps; default: the model's own")
    compose.add_argument("--quiet", action="store_true", help="no progress bars")
    compose.set_defaults(attention=None, compile=False)


def compose(args: argparse.Namespace) -> None:
    """Composes, tells each part as it is made, and prints the page's path; what was made before a failure is kept."""
    from ..conversation.composition import Composition, check_folder
    from ..images import open_image

    check_folder(args.out)
    pictures = [open_image(path) for path in args.image]
    model = open_model_of(args)
    width, height = args.size or (None, None)
    asked: dict[str, Any] = {"width": width, "height": height, "seed": args.seed, "steps": args.steps}
    parts: list[Part] = []

    def keep(part: Part) -> None:
        parts.append(part)
        _tell(part)

    how: dict[str, Any] = {"on_part": keep, "progress": not args.quiet}
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "the picture is kept", UserWarning)
        try:
            made = model.compose(args.request, pictures, args.tries, **how, **asked)
        except BaseException:
            if parts:
                page = Composition(args.request, model.config.name, tuple(parts)).save(args.out)
                print(f"lightbagel: it was not finished; what was made until then is in {page}", file=sys.stderr)
            raise
    for each in caught:
        print(shown(f"lightbagel: {each.message}"), file=sys.stderr)
    print(made.save(args.out))


def _tell(part: Part) -> None:
    """Prints a part to stderr; stdout has the page's path."""
    tries = f", {part.tries} tries" if part.tries > 1 else ""
    doubt = "" if part.verdict is None or part.verdict.good else f" (the VLM did not agree: {part.verdict.why})"
    text = " ".join((part.step.text if part.picture is None else part.prompt).split())
    print(shown(f"{part.step.kind}{tries}: {text}{doubt}"), file=sys.stderr, flush=True)
