"""The command that makes a store of what people have: `lightbagel prepare …`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .passing import Asked

MOST_WORKERS = 64
IDLE = ("name", "source", "licence", "longest", "latents", "vae", "config", "device", "workers")  # for a sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="a folder or file of a data set")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--out", type=Path, metavar="STORE", help="the store: a new folder, or one that sets are added to"
    )
    where.add_argument(
        "--look", type=Path, metavar="SHEET.png", help="write a sheet of some rows, of sources or of a store, instead"
    )
    parser.add_argument("--layout", help="how the sources are laid out; default: as they look")
    parser.add_argument("--name", help="of the set that the sources make together; default: each is one of its own")
    parser.add_argument("--source", metavar="TEXT", help="where the data is from, for the record")
    parser.add_argument("--licence", metavar="TEXT", help="default: what the README.md beside the data says")
    parser.add_argument(
        "--longest", type=int, metavar="PIXELS", help="scale larger pictures down to this; default: none"
    )
    parser.add_argument(
        "--latents",
        metavar="MODEL",
        help='keep all pictures\' latents too, by the VAE of this model: "nano" or a folder',
    )
    parser.add_argument("--vae", metavar="PATH", help="the same by this VAE: diffusers folder or single file")
    parser.add_argument("--config", metavar="FILE", help="for latents of a model of another size than 7B + 5B")
    parser.add_argument("--device", help="for latents; default: the accelerator that is there")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: one a core")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def command(args: argparse.Namespace) -> int:
    """Prepares the sources, or draws a sheet of them; 0 when done.

    Raises:
        ValueError: for anything the caller can mend.
    """
    from ..data.store import pyarrow

    pyarrow()
    if args.look is not None:
        return _look(args)
    from .passing import prepare
    from .tally import report

    if args.longest is not None and args.longest < 64:
        raise ValueError(f"--longest must be at least 64, not {args.longest}")
    if (args.config or args.device) and not (args.latents or args.vae):
        raise ValueError("--config and --device are for latents: add --latents MODEL or --vae PATH, or leave them out")
    asked = sets_of(args)
    manifest, tallies = prepare(
        args.out, asked, longest=args.longest or 0, workers=_workers(args.workers), progress=not args.quiet
    )
    print(report(args.out, manifest, tallies))
    if args.latents or args.vae:
        _keep_latents(args)
    return 0


def _keep_latents(args: argparse.Namespace) -> None:
    from ..data.store import Store
    from ..stages import Model
    from .store_latents import keep_latents

    model = Model(model=args.latents, vae=args.vae, config=args.config)
    made, known = keep_latents(Store(args.out), model, args.device, progress=not args.quiet)
    print(f"latents of {made:,} pictures made" + (f", of {known:,} there already" if known else ""))


def _look(args: argparse.Namespace) -> int:
    from .contact_sheet import is_store, write_look
    from .layouts import find

    idle = [f"--{name}" for name in IDLE if getattr(args, name)]
    if idle:
        raise ValueError(f"{', '.join(idle)}: only --out asks for it; a sheet shows what there is")
    if args.look.suffix.lower() != ".png":
        raise ValueError(f"{args.look} must end in .png")
    found = [(path, None if is_store(path) else find(path, args.layout)) for path in args.sources]
    count = write_look(args.look, found)
    print(f"{args.look}: {count} rows")
    return 0


def sets_of(args: argparse.Namespace) -> list[Asked]:
    """The sets that a command's sources make.

    Raises:
        ValueError: a source is missing, twice there, or laid out as nothing that is known; or two would have one name.
    """
    from .layouts import find
    from .licences import licence_of
    from .passing import Asked

    paths = [path.resolve() for path in args.sources]
    if twice := [str(path) for path in dict.fromkeys(paths) if paths.count(path) > 1]:
        raise ValueError(f"{', '.join(twice)} is named twice")
    found = [(path, find(path, args.layout)) for path in args.sources]
    groups = [(args.name, tuple(found))] if args.name else [(_name(one[0]), (one,)) for one in found]
    names = [name for name, _ in groups]
    if same := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"several sources are called {', '.join(same)}: prepare them one by one, each with a --name")
    return [
        Asked(
            name,
            sources,
            " ".join((args.source or "").split()),
            args.licence or ", ".join(dict.fromkeys(filter(None, (licence_of(path) for path, _ in sources)))),
        )
        for name, sources in groups
    ]


def _name(source: Path) -> str:
    path = source.resolve()
    return path.name if path.is_dir() else path.stem


def _workers(asked: int | None) -> int:
    if asked is not None and not 1 <= asked <= MOST_WORKERS:
        raise ValueError(f"--workers must be 1 to {MOST_WORKERS}, not {asked}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or min(cores, MOST_WORKERS)
