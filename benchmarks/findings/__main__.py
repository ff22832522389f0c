"""The paper's findings in miniature.

    python -m benchmarks.findings run --out DIR [--arm NAME …] [--seed N …]     trains and scores what is not there yet
    python -m benchmarks.findings report --out DIR                 the tables and the figures of docs/findings.md

`run` goes from arm to arm and from seed to seed; where it is stopped, the same command goes on. Each run's folder holds
its training (config, curves, pictures) and `scores.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from lightbagel_core.files.writing import write_whole

from .arms import arms
from .report import SCORES, report
from .scoring import edits, prompts
from .training import minutes, trained

SCRATCH = ".scores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arm", action="append", choices=sorted(arms()), help="default: all")
    parser.add_argument(
        "--seed", action="append", type=int, help="default: those of the arm's file; several may run beside another"
    )
    parser.add_argument("--steps", type=int, help="of a training; default: as common.toml says")
    parser.add_argument("--each", type=int, default=40, help="edits of each kind and prompts of each task; default: 40")
    parser.add_argument("--figures", type=Path, help="where a report's figures go; default: beside the runs")
    args = parser.parse_args()
    if args.what == "report":
        try:
            print(report(args.out, args.figures or args.out))
        except ValueError as error:
            parser.error(str(error))
        return
    for name, arm in arms().items():
        if args.arm and name not in args.arm:
            continue
        for seed in args.seed or arm.seeds:
            folder = args.out / f"{name}-{seed}"
            if (folder / SCORES).is_file():
                continue
            model = trained(arm, seed, folder, args.steps)
            began = time.perf_counter()
            steps = arm.trained_by(seed, {}, args.steps).steps
            found = {"arm": name, "seed": seed, "steps": steps, **edits(model, arm.drawing, args.each)}
            found["prompts"] = prompts(model, args.each)
            found["minutes"] = minutes(arm, folder) + (time.perf_counter() - began) / 60
            write_whole(folder / SCORES, json.dumps(found).encode(), folder / SCRATCH)


if __name__ == "__main__":
    main()
