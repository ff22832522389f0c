"""lightbagel bench generate | score | table | run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .opening import open_model_of

if TYPE_CHECKING:
    from ..evaluation.bench import Bench, Files
    from ..evaluation.presets import Drawing
    from ..evaluation.shares import Share

SHOWN = 12  # of what is missing; the rest is counted


def _files(args: argparse.Namespace) -> Files:
    from ..evaluation.bench import Files

    return Files(
        args.prompts,
        args.out,
        args.image_folder,
        getattr(args, "results", None),
        getattr(args, "judge_prompts", None),
    )


def _drawing(args: argparse.Namespace, bench: Bench) -> Drawing:
    """The settings that the options ask for, over those of the preset."""
    from ..evaluation.presets import Drawing, authors
    from ..sampling.settings import Asked

    asked, negative, seed = authors(bench.editing) if args.preset else (Asked(), "", 0)
    width, height = args.size or (None, None)
    given = {**vars(args), "width": width, "height": height}
    own = {name: given[name] for name in Asked.__annotations__ if given.get(name) is not None}
    if own.get("image_guidance") is not None and not bench.editing:
        raise ValueError(f"--image-guidance needs source images, and {bench.name} has none")
    return Drawing(
        samples=bench.samples if args.samples is None else args.samples,
        batch=bench.batch if args.batch is None else args.batch,
        asked={**asked, "seed": seed, **own},  # type: ignore[typeddict-item]
        negative=negative if args.negative is None else args.negative,
        source_tokens=tuple(args.source_tokens),
    )


def _share(args: argparse.Namespace) -> Share:
    from ..evaluation.shares import Share

    if (args.rank is None) != (args.world_size is None):
        raise ValueError("--rank and --world-size belong together: give both, or neither")
    share = Share.of(os.environ) if args.rank is None else Share(args.rank, args.world_size, args.rank)
    if share.world > 1 and args.device is None:
        import torch

        if torch.cuda.is_available():
            args.device = f"cuda:{share.local % torch.cuda.device_count()}"
    return share


def _say_missing(missing: Mapping[str, str] | Sequence[str], what: str) -> None:
    if not missing:
        return
    rows = [f"{name}: {why}" for name, why in missing.items()] if isinstance(missing, Mapping) else list(missing)
    print(f"lightbagel: {len(rows)} {what}:", file=sys.stderr)
    for row in rows[:SHOWN]:
        print(f"  {row if len(row) < 160 else row[:157] + '...'}", file=sys.stderr)
    if len(rows) > SHOWN:
        print(f"  and {len(rows) - SHOWN} more", file=sys.stderr)


def generate(args: argparse.Namespace) -> int:
    """Draws this process's share of a bench; 2 when something of it is lacking afterwards."""
    from ..evaluation.draw import NOT_DRAWN
    from ..evaluation.registry import bench_named
    from ..evaluation.run_file import claim
    from ..evaluation.split import draw_bench

    bench, files, share = bench_named(args.bench), _files(args), _share(args)
    drawing = _drawing(args, bench)
    reading = bench.read(files, drawing.samples)
    _say_missing(reading.unusable, f"rows of {files.prompts} cannot be used")
    args.count, args.images = drawing.batch, [None] * bench.editing  # what the memory is reckoned with
    model = open_model_of(args)
    claim(args.out, model, bench.name, files, drawing)
    report = draw_bench(model, bench.name, reading.items, args.out, drawing, share, not args.quiet)
    _say_missing(report.missing, f"items were not drawn; the reasons are in {args.out / NOT_DRAWN}")
    speed = f", {report.drawn / report.seconds:.2f} pictures a second" if report.drawn else ""
    part = f"share {share.rank} of {share.world}: " if share.world > 1 else ""
    print(f"{part}{report.drawn} pictures drawn, {report.there} there before{speed}: {args.out}")
    if bench.official:
        print(f"its official scorer: {bench.official.format(out=args.out)}")
    return 2 if report.missing or reading.unusable else 0


ACTIONS = {"generate": generate}


def bench(args: argparse.Namespace) -> int:
    """Runs one of bench's commands."""
    return ACTIONS[args.action](args)
