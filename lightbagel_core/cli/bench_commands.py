"""lightbagel bench generate | score | table | run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from .opening import open_model_of

if TYPE_CHECKING:
    from ..evaluation.bench import Bench, Files
    from ..evaluation.drawing.presets import Drawing
    from ..evaluation.drawing.shares import Share
    from ..evaluation.show.runs import Run

JUDGES = ("model", "temperature", "max_tokens", "extra")  # options --judge-… that are fields of a judge
SHOWN = 12  # of what is missing; the rest is counted


def _files(args: argparse.Namespace, samples: int | None = None) -> Files:
    from ..evaluation.bench import Files

    if args.image_folder is not None and not args.image_folder.is_dir():
        raise ValueError(f"--image-folder {args.image_folder} is no folder; name the one of the source pictures")
    results, judge_prompts = getattr(args, "results", None), getattr(args, "judge_prompts", None)
    return Files(args.prompts, args.out, args.image_folder, results, judge_prompts, samples)


def _drawing(args: argparse.Namespace, bench: Bench) -> Drawing:
    """The settings that the options ask for, over those of the preset."""
    from ..evaluation.drawing.presets import Drawing, authors
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
        history=bench.history,
    )


def _share(args: argparse.Namespace) -> Share:
    from ..evaluation.drawing.shares import Share

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
    # A small model's list of words is the same in every row.
    rows = [f"{name}: {why}" for name, why in missing.items()] if isinstance(missing, Mapping) else list(missing)
    print(f"lightbagel: {len(rows):,} {what}:", file=sys.stderr)
    for row in rows[:SHOWN]:
        print(f"  {row.partition('. The words it knows')[0][:300]}", file=sys.stderr)
    if len(rows) > SHOWN:
        print(f"  and {len(rows) - SHOWN:,} more", file=sys.stderr)


def generate(args: argparse.Namespace) -> int:
    """Draws this process's share of a bench; 2 when something of it is lacking afterwards."""
    from ..evaluation.drawing.draw import NOT_DRAWN, check_settings
    from ..evaluation.drawing.run_file import claim
    from ..evaluation.drawing.split import draw_bench
    from ..evaluation.registry import bench_named

    bench, files, share = bench_named(args.bench), _files(args), _share(args)
    drawing = _drawing(args, bench)
    reading = bench.read(files, drawing.samples)
    _say_missing(reading.unusable, f"rows of {files.prompts} cannot be used")
    args.count, args.images = drawing.batch, [None] * bench.editing  # what the memory is reckoned with
    model = open_model_of(args)
    size = check_settings(model, drawing, bench.editing)
    if args.size not in (None, size):
        print(f"lightbagel: a size of {args.size[0]}x{args.size[1]} becomes {size[0]}x{size[1]}", file=sys.stderr)
    claim(args.out, model, bench.name, files, drawing)
    report = draw_bench(model, bench.name, reading.items, args.out, drawing, share, not args.quiet)
    _say_missing(report.missing, f"of {len(reading.items):,} not drawn; the reasons are in {args.out / NOT_DRAWN}")
    if args.image_folder is None and any("there is no image file" in why for why in report.missing.values()):
        print("lightbagel: name the folder of the source pictures with --image-folder", file=sys.stderr)
    speed = f", {report.drawn / report.seconds:.2f} pictures a second" if report.drawn else ""
    part = f"share {share.rank} of {share.world}: " if share.world > 1 else ""
    print(f"{part}{report.drawn} pictures drawn, {report.there} there before{speed}: {args.out}")
    if bench.official and report.drawn + report.there:
        print(f"its official scorer: {bench.official.format(out=args.out)}")
    return 2 if report.missing or reading.unusable else 0


def score(args: argparse.Namespace) -> int:
    """Has a judge asked, where one is named; writes the figures into the pictures' folder and prints them."""
    from ..evaluation.drawing.run_file import check_drawn
    from ..evaluation.registry import bench_named
    from ..evaluation.scores import FILE
    from ..evaluation.show.runs import samples_of
    from ..files.writing import write_beside

    bench, files = bench_named(args.bench), _files(args, samples_of(args.out))
    if bench.score is None:
        raise ValueError(
            f"{bench.title} is scored by its own scripts alone: {bench.official.format(out=files.out)}"
            if bench.official
            else f"{bench.title} is scored by its own scripts alone"
        )
    _check_judge(args, bench)
    check_drawn(args.out, bench.name, files)
    if args.judge_url is not None:
        _judge(args, bench, files)
    found = bench.score(files)
    write_beside(files.out / FILE, json.dumps(found.to_dict(), indent=1).encode() + b"\n")
    _show([files.out])
    return 0


def _check_judge(args: argparse.Namespace, bench: Bench) -> None:
    """Raises ValueError where the options that concern a judge do not go together."""
    given = [name for name in vars(args) if name.startswith("judge_") and name != "judge_url"]
    if args.judge_url is None:
        # Benches without such a judge read their own questions from --judge-prompts.
        alone = [name for name in given if bench.judged is not None or name != "judge_prompts"]
        if alone:
            raise ValueError(f"--{alone[0].replace('_', '-')} needs --judge-url")
        return
    if bench.judged is None:
        raise ValueError(f"{bench.title} is not scored by a judge behind an endpoint; leave out --judge-url")
    if args.results is not None:
        raise ValueError("--judge-url asks a judge and --results reads what another said: give one of them")
    if "judge_model" not in given:
        raise ValueError("--judge-url needs --judge-model, the name under which the endpoint knows the judge")


def _judge(args: argparse.Namespace, bench: Bench, files: Files) -> None:
    """Asks the judge, and writes what it said in the form that the official judge writes."""
    from ..evaluation.judge.ask import Cost, Judge
    from ..evaluation.judge.judging import judge_bench

    given = vars(args)
    own = {name: given[f"judge_{name}"] for name in JUDGES if f"judge_{name}" in given}
    price_in, price_out = given.get("judge_price", (None, None))
    workers = {"concurrency": args.judge_workers} if "judge_workers" in given else {}
    judge = Judge(args.judge_url, price_in=price_in, price_out=price_out, **workers, **own)
    bars: list[Any] = []

    def progress(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm(total=total, disable=args.quiet, unit=" questions", desc=bench.name))
        bars[0].update(done - bars[0].n)

    def paid(cost: Cost) -> None:
        for bar in bars:
            bar.close()
        print(cost.line())

    print(f"what {judge.model} said: {judge_bench(bench, files, judge, progress, paid)}")


def _titles(runs: Sequence[Run]) -> dict[str, str]:
    """What the benches of some runs are called."""
    from ..evaluation.registry import MODULES, bench_named

    return {name: bench_named(name).title for name in {run.scores.bench for run in runs} & set(MODULES)}


def _show(folders: Sequence[Path]) -> None:
    """Prints the tables of scored runs."""
    from ..evaluation.show.runs import read_runs
    from ..evaluation.show.table import markdown

    runs = read_runs(folders)
    print(markdown(runs, _titles(runs)), end="")


def table(args: argparse.Namespace) -> int:
    """Prints runs beside the paper; writes the table, a figure and contact sheets where they are asked for."""
    from ..evaluation.show.figure import names_of, write_figure
    from ..evaluation.show.fonts import bundled
    from ..evaluation.show.runs import read_runs
    from ..evaluation.show.sheet import write_sheet
    from ..evaluation.show.table import markdown, write_table
    from ..evaluation.show.targets import PICTURE, TEXT, check_targets

    runs = read_runs(args.runs)
    titles, written = _titles(runs), []
    text = markdown(runs, titles)
    sheets = [] if args.sheet is None else _sheets(args.sheet, runs)
    pictures = [*([] if args.figure is None else [args.figure]), *sheets]
    texts = [] if args.markdown is None else [(args.markdown, TEXT)]
    check_targets([*texts, *((file, PICTURE) for file in pictures)], [run.folder for run in runs])
    if pictures:
        bundled()  # says what is not installed
    if args.figure is not None:
        names_of(runs)
    print(text, end="")
    if args.markdown is not None:
        write_table(args.markdown, runs, titles)
        written.append(args.markdown)
    if args.figure is not None:
        write_figure(args.figure, runs, titles)
        written.append(args.figure)
    if args.sheet is not None:
        for file, run in zip(sheets, runs, strict=True):
            for note in write_sheet(file, run, title=titles.get(run.scores.bench, "")):
                print(f"lightbagel: {note}", file=sys.stderr)
            written.append(file)
    for file in written:
        print(file, file=sys.stderr)
    return 0


def _sheets(file: Path, runs: Sequence[Run]) -> list[Path]:
    """The file of each run's contact sheet: the one named, or one beside it for each of several."""
    if len(runs) == 1:
        return [file]
    names = [run.scores.bench for run in runs]
    names = [name if names.count(name) == 1 else f"{name}-{i + 1}" for i, name in enumerate(names)]
    return [file.with_name(f"{file.stem}-{name}{file.suffix}") for name in names]


def run(args: argparse.Namespace) -> int:
    """Makes, draws and scores the nano's suites, and prints their tables."""
    from ..evaluation.scores import RUN_FILE
    from ..evaluation.suites.run import FULL, run_nano

    if args.full and args.count is not None:
        raise ValueError("--count and --full both say how many items: give one of them")
    if (args.out / RUN_FILE).exists():
        raise ValueError(f"{args.out} holds the pictures of one bench; choose another folder for the suites")
    model = open_model_of(args)
    how = FULL if args.full else {} if args.count is None else {"count": args.count}
    scores = run_nano(model, args.out, progress=not args.quiet, **how)
    _show([args.out / one.bench for one in scores])
    return 0


ACTIONS = {"generate": generate, "score": score, "table": table, "run": run}


def bench(args: argparse.Namespace) -> int:
    """Runs one of bench's commands; gives the exit status.

    Raises:
        ValueError: whatever is wrong, and a library that is not installed because only benches need it.
    """
    try:
        return ACTIONS[args.action](args)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("scipy", "matplotlib", "openai", "pyarrow"):
            raise
        raise ValueError(f"this needs {library}: pip install {library}") from None
