"""Runs to be shown beside each other: their scores, and a name for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..scores import FILE, RUN_FILE, Scores, read_scores
from .paper import Paper


@dataclass(frozen=True)
class Run:
    """One run of one bench. name: of the column that shows it. folder: the pictures of `scores.worst` lie below it."""

    name: str
    scores: Scores
    folder: Path


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in some folders; a folder that has no scores but folders with scores gives all of those.

    A run is called as its model and LoRAs in the run file, or as its folder; where two of one bench would have one
    name, their folders stand behind it.

    Raises:
        ValueError: a folder has no scores, or damaged ones, or is given twice.
    """
    found = [(folder, inner) for folder in folders for inner in _with_scores(folder)]
    scores = [read_scores(inner) for _, inner in found]
    models = [_model(inner) for _, inner in found]
    namings: tuple[Callable[[int], str], ...] = (
        lambda i: models[i] or found[i][0].resolve().name,
        lambda i: f"{models[i]} ({found[i][0].resolve().name})" if models[i] else str(found[i][0]),
        lambda i: f"{models[i] or 'run'} ({found[i][1]})",
    )
    for naming in namings:
        names = [naming(i) for i in range(len(found))]
        if len({(name, of.bench) for name, of in zip(names, scores, strict=True)}) == len(found):
            return [Run(name, of, inner) for name, of, (_, inner) in zip(names, scores, found, strict=True)]
    raise ValueError("a run's folder is given twice; name each once")


def _with_scores(folder: Path) -> list[Path]:
    """The folder itself or those inside it that have scores; itself again, for the error, where none has."""
    if (folder / FILE).exists():
        return [folder]
    return sorted(file.parent for file in folder.glob(f"*/{FILE}")) or [folder]


def _made_with(folder: Path, *names: str) -> Any:
    """What a run file says of how its pictures were made; None where there is no such file, or none that says it."""
    try:
        found = json.loads((folder / RUN_FILE).read_text("utf-8"))["made_with"]
        for name in names:
            found = found[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def _model(folder: Path) -> str:
    """The model's name in a run file, with the LoRAs that it drew with; nothing where no name is said."""
    name, loras = (_made_with(folder, "model", key) for key in ("name", "loras"))
    if not isinstance(name, str) or not name.strip():
        return ""
    added = loras.items() if isinstance(loras, dict) else ()
    return " + ".join([name.strip(), *(f"{Path(file).stem} {strength}" for file, strength in added)])


def samples_of(folder: Path) -> int | None:
    """How many pictures of each prompt a run drew, as its run file says; None where none is said."""
    samples = _made_with(folder, "settings", "samples")
    return samples if isinstance(samples, int) and samples > 0 else None


def by_bench(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each bench, benches and runs in the order in which they came.

    Raises:
        ValueError: two runs of one bench have figures in different units.
    """
    benches: dict[str, list[Run]] = {}
    for run in runs:
        benches.setdefault(run.scores.bench, []).append(run)
    for bench, of in benches.items():
        units = sorted({run.scores.unit for run in of})
        if len(units) > 1:
            raise ValueError(f"runs of {bench} have figures in {' and '.join(units)}; score them with one version")
    return benches


def row_names(runs: Sequence[Run], paper: Paper | None) -> tuple[list[str], list[str]]:
    """(headline figures, groups) that a run of one bench or the paper has, in the paper's order, then in the runs'."""
    overall = [*(paper.overall if paper else ()), *(name for run in runs for name in run.scores.overall)]
    groups = [*(paper.groups if paper else ()), *(name for run in runs for name in run.scores.groups)]
    return list(dict.fromkeys(overall)), list(dict.fromkeys(groups))
