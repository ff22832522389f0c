"""Invented scores for the tests of tables, figures and sheets. No model reached any of these."""

from __future__ import annotations

from pathlib import Path

from lightbagel_core.evaluation.scores import Score, Scores, Worst
from lightbagel_core.evaluation.show.runs import Run
from lightbagel_core.evaluation.statistics import wilson

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


def geneval(bench: str = "geneval", **fields: object) -> Scores:
    groups = {tag: wilson(80 - 9 * i, 100) for i, tag in enumerate(TAGS)}
    return Scores(bench, "share", {"mean of tasks": Score(0.575, 0.5, 0.65, 1600)}, groups, **fields)


def imgedit(**fields: object) -> Scores:
    overall = {"mean of types": Score(3.5, 3.4, 3.6, 737), "mean of samples": Score(3.456, 3.4, 3.5, 737)}
    return Scores(
        "imgedit", "1-5", overall, {"add": Score(4.0, 3.8, 4.2, 95), "compose": Score(2, 1.5, 2.5, 23)}, **fields
    )


def run(name: str, scores: Scores, folder: Path = Path("run")) -> Run:
    return Run(name, scores, folder)


def worst(index: int, *pictures: str, prompt: str = "remove the star", reason: str = "it is still there") -> Worst:
    return Worst(f"{index:05}", prompt, index / 100, pictures, reason)
